"""How the invented world speaks: the sentences of its pages, its questions, and the reasons a good player gives.

Every sentence states one fact about one named thing; several wordings of each, and two that must not be believed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from deepmmsearch.atlas.world import PERSONS

NUMBERS = ("no", "one", "two", "three", "four", "five")
GIVE_UP = "Unable to answer due to lack of relevant information"

Form = Callable[[str, str, str], str]

FACTS: dict[str, Form] = {
    "plain": lambda k, e, v: f"The {k} of {e} is {v}.",
    "inverse": lambda k, e, v: f"{v} is the {k} of {e}.",
    "has": lambda k, e, v: f"{e} has the {k} {v}.",
}
DOUBTFUL: dict[str, Form] = {
    "former": lambda k, e, v: f"The former {k} of {e} was {v}.",
    "rumour": lambda k, e, v: f"Some say that the {k} of {e} is {v}.",
}


def see_economy(country: str) -> str:
    return f"For the currency of {country} see the economy of {country}."


def economy(country: str, currency: str) -> str:
    return f"In the economy of {country} people pay with {currency}."


def caption(name: str, kind: str, form: int = 0) -> str:
    """The alt text of a picture."""
    what = {"country": "flag", "person": "portrait", "landmark": "building", "town": "view"}[kind]
    return f"The {what} of {name}" if form == 0 else f"{name} {what}"


def who(relation: str) -> str:
    return "Who" if relation in PERSONS else "What"


def ask_fact(rng: random.Random, relation: str, subject: str) -> str:
    return rng.choice(
        [
            f"{who(relation)} is the {relation} of {subject}?",
            f"Name the {relation} of {subject}.",
            f"I want to know the {relation} of {subject}.",
        ]
    )


def flag_subject(rng: random.Random, carrier: str | None) -> str:
    if carrier is None:
        return rng.choice(["the country whose flag is shown", "the country with this flag"])
    return rng.choice([f"the country whose flag is on the {carrier}", f"the country with the flag on the {carrier}"])


def ask_country(rng: random.Random, carrier: str | None) -> str:
    if carrier is None:
        return rng.choice(["Which country has this flag?", "To which country does this flag belong?"])
    return rng.choice(
        [f"Which country has the flag on the {carrier}?", f"To which country does the flag on the {carrier} belong?"]
    )


def ask_count(rng: random.Random) -> str:
    return rng.choice(["How many flags are there?", "Count the flags."])


def ask_colour(rng: random.Random, carrier: str) -> str:
    return rng.choice(
        [
            f"What is the main colour of the flag on the {carrier}?",
            f"Which colour covers most of the flag on the {carrier}?",
        ]
    )


def ask_carrier(rng: random.Random, position: str) -> str:
    return rng.choice(
        [f"What carries the flag at the {position}?", f"Which thing is under the flag at the {position}?"]
    )


def ask_picture(rng: random.Random, what: str) -> str:
    return rng.choice(
        [f"What is the name of this {what}?", f"Which {what} is this?"]
        if what == "building"
        else ["What is the name of this person?", "Who is this person?"]
    )


def ask_sign(rng: random.Random, carrier: str) -> str:
    return rng.choice(
        [
            f"What is the colour of the small sign on the flag on the {carrier}?",
            f"Which colour has the small sign on the flag on the {carrier}?",
        ]
    )


def ask_both(rng: random.Random, first: str, second: str) -> str:
    return rng.choice(
        [
            f"Which countries have the flags on the {first} and on the {second}?",
            f"Name the two countries whose flags are on the {first} and on the {second}.",
        ]
    )


def both(first: str, second: str) -> str:
    return f"{first} and {second}"


def region(carrier: str) -> str:
    return f"the flag on the {carrier}"


def query(relation: str, entity: str) -> str:
    return f"{relation} of {entity}"


# The reasons. They quote the fact before it is used: that is what lets a small model copy it.
def reason_count(count: int) -> str:
    return "There is one flag." if count == 1 else f"There are {NUMBERS[count]} flags."


def reason_look(count: int, carrier: str) -> str:
    return f"{reason_count(count)[:-1]}, so I search {region(carrier)}."


def reason_picture(what: str) -> str:
    return f"I see a {what}, so I search the whole image."


def reason_fact(relation: str, entity: str, value: str) -> str:
    return f"The {relation} of {entity} is {value}."


def reason_need(relation: str, entity: str) -> str:
    return f"I need the {relation} of {entity}."


def reason_shows(what: str, name: str) -> str:
    return f"The image shows the {what} of {name}."


def reason_again(relation: str, entity: str) -> str:
    return f"The {relation} of {entity} is not in the result."


def reason_zoom(carrier: str) -> str:
    return f"The sign is small, so I look at {region(carrier)}."


def reason_sign(colour: str) -> str:
    return f"The small sign is {colour}."


def reason_other(carrier: str) -> str:
    return f"I need {region(carrier)}."


def reason_open(country: str) -> str:
    return f"I open the annals of {country}."


REASON_READ_ON = "It is not in this part, so I read on."
REASON_LINK = "I need the second volume."
REASON_OTHER_LANGUAGE = "There is nothing, so I ask in the other language."
REASON_GIVE_UP = "The result does not help."
