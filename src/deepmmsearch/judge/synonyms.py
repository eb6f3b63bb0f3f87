"""Everyday words for the same thing, which differ in more than spelling."""

from __future__ import annotations

_ROWS = """
car automobile motorcar
physician doctor medical_doctor
couch sofa settee
bicycle bike pushbike
motorcycle motorbike
airplane plane aeroplane
tv television television_set tv_set
refrigerator fridge
mobile_phone cell_phone cellphone cellular_phone mobile
telephone phone
photograph photo
movie film motion_picture
lawyer attorney
lorry truck
fire_truck fire_engine firetruck
elevator lift
sidewalk pavement footpath
trash_can garbage_can dustbin rubbish_bin
eyeglasses glasses spectacles
sunglasses shades
sneakers trainers running_shoes
puma cougar mountain_lion
orca killer_whale
autumn fall
cab taxi taxicab
subway underground metro
railway railroad
dress frock
kid child
mum mother mom mam
dad father
supermarket grocery_store
maize corn
aubergine eggplant
courgette zucchini
biscuit cookie
petrol gasoline gas
holiday vacation
rubbish garbage trash
"""


def _words(name: str) -> str:
    return name.replace("_", " ")


_SAME = {_words(name): number for number, line in enumerate(_ROWS.strip().splitlines()) for name in line.split()}


def are_synonyms(one: str, other: str) -> bool:
    """Of two texts in lower case, in the singular and without articles."""
    return one in _SAME and _SAME[one] == _SAME.get(other)
