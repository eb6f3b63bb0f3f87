"""Pages that stand before a page and say nothing themselves: redirections, checks for robots, consent, logins."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

# longer ones say something of their own, whatever else they ask
LONGEST_REDIRECTION, LONGEST_CHECK, LONGEST_CONSENT, LONGEST_LOGIN = 300, 1_500, 2_500, 600

_REFRESH = re.compile(r"^\s*(\d+)(?:\.\d*)?\s*[;,]\s*(?:url\s*=\s*)?[\"']?([^\"']+)", re.I)
_CHECK_MARKS = re.compile(
    r"_cf_chl_opt|/cdn-cgi/challenge-platform|cf-browser-verification|_Incapsula_Resource|captcha-delivery\.com|px-captcha"
    r"|awswaf|sgcaptcha|ddos-guard|anubis_challenge"
)
_CHECK = re.compile(
    r"^just a moment|^attention required|checking (?:if the site connection is secure|your browser before)"
    r"|are you (?:a robot|human)|verify(?:ing)? (?:that )?you are (?:a |not a )?(?:human|robot)|verifying you are human"
    r"|unusual traffic from your|pardon our interruption|complete the (?:security check|captcha)|press (?:&|and) hold"
    r"|access to this page has been denied|making sure you(?:'|’)re not a bot",
    re.I,
)
_NEEDS_SCRIPTS = re.compile(
    r"(?:enable|activate|turn on|requires?|needs?|without)\W+(?:\w+\W+){0,3}java-?script"
    r"|java-?script\W+(?:\w+\W+){0,4}(?:disabled|required|enabled|deaktiviert|aktivieren)"
    r"|(?:activer|habilit\w+)\W+(?:\w+\W+){0,2}javascript",
    re.I,
)
_CONSENT = re.compile(
    r"before you continue to \w+|bevor (?:sie|du) zu \w+|avant d['’]accéder à \w+|antes de continuar"
    r"|we (?:and our|value) (?:\d+ )?(?:partners|privacy)|your privacy (?:choices|matters)|privacy settings"
    r"|we use cookies|wir (?:verwenden|nutzen) cookies|nous utilisons des cookies",
    re.I,
)
_OF_CONSENT = re.compile(
    r"cookie|privacy|consent|partners?|personali[sz]|advert|\bdata\b|datenschutz|einwillig|confidential|privacidad|terms"
    r"|language|sign in",
    re.I,
)
_ACCEPT = re.compile(
    r"^\W*(?:accept|agree|i agree|allow|reject|decline|got it|alle? (?:akzeptieren|ablehnen)|akzeptieren|ablehnen"
    r"|zustimmen|accepter|refuser|tout (?:accepter|refuser)|aceptar|rechazar|accetta|rifiuta)\b",
    re.I,
)


class Gates:
    """What a tree shows of them before its controls and scripts are taken out."""

    def __init__(self, tree: Any) -> None:
        self.leads_to = ""
        for meta in tree.iter("meta"):
            if (meta.get("http-equiv") or "").strip().lower() == "refresh":
                found = _REFRESH.match(meta.get("content") or "")
                if found and int(found[1][:6]) <= 30:
                    self.leads_to = found[2].strip()[:500]
        scripts = (f"{s.get('src') or ''} {(s.text or '')[:20_000]}" for s in tree.iter("script"))
        self.checks = any(_CHECK_MARKS.search(text) for text in scripts)
        self.asks_password = any((field.get("type") or "").lower() == "password" for field in tree.iter("input"))
        buttons = ("".join(b.itertext())[:80] for b in tree.iter("button", "a"))
        self.choices = sum(bool(_ACCEPT.match(text)) for text in buttons)
        values = (i.get("value") or "" for i in tree.iter("input") if i.get("type") in ("submit", "button"))
        self.choices += sum(bool(_ACCEPT.match(value)) for value in values)
        self.fields = sum(
            (f.get("type") or "text").lower() in ("text", "email", "password", "tel") for f in tree.iter("input")
        )

    def reason(self, title: str, text: str, address: str) -> str:
        """Why there is nothing to read, "" where there is; `text`: all that the page shows."""
        shown = f"{title}\n{text}"
        if self.leads_to and len(text) <= LONGEST_REDIRECTION and not _leads_to_itself(self.leads_to, address):
            return f"it only leads on to {self.leads_to}"
        if len(text) > LONGEST_CONSENT:
            return ""
        if len(text) <= LONGEST_CHECK and _CHECK.search(shown) and (self.checks or len(text) <= 400):
            return "it is a check for robots that stands before the page"
        if len(text) <= 400 and _NEEDS_SCRIPTS.search(text):
            return "it says only that it needs scripts"
        if self.choices and _CONSENT.search(shown) and len(_without_consent(text)) <= 200:
            return "it is a question for consent that stands before the page"
        if self.asks_password and self.fields <= 4 and len(text) <= LONGEST_LOGIN:
            return "it asks for a login"
        return ""


def _leads_to_itself(address: str, own: str) -> bool:
    return (
        bool(own) and urlsplit(address)._replace(fragment="").geturl() == urlsplit(own)._replace(fragment="").geturl()
    )


def _without_consent(text: str) -> str:
    """The lines that speak of something else."""
    lines = (line for line in text.splitlines() if len(line) > 20)
    return " ".join(line for line in lines if not _OF_CONSENT.search(line) and not _ACCEPT.match(line))
