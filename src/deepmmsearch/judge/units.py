"""Units of measurement: what they are called, what they measure, how much they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# dimension, factor to the dimension's base, names (spaces as _). Names of one letter, and those in which case decides,
# are found as written; the others in any case.
_TABLE = """
length 0.001 mm millimetre 毫米 millimètre milímetro
length 0.01 cm centimetre 厘米 公分 centimètre centímetro センチ
length 0.1 dm decimetre
length 1 m metre 米 公尺 mètre metro メートル метр метров метра
length 1000 km kilometre 公里 千米 kilomètre kilómetro quilômetro chilometro キロメートル км километров
length 0.0254 inch inches " ″
length 0.3048 ft foot feet ' ′ Fuß pied pieds 英尺
length 0.9144 yd yard
length 1609.344 mi mile Meile 英里 mille milles
length 1852 nmi nautical_mile
length 9.4607e15 ly light_year light-year
length 1.495978707e11 au AU AE astronomical_unit
mass 1e-6 mg milligram
mass 0.001 g gram gramme Gramm 克
mass 1 kg kilo kilogram kilogramme 千克 公斤 Kilogramm kilogramo кг
mass 1000 t tonne ton metric_ton metric_tonne Tonnen 吨 tonelada
mass 0.45359237 lb lbs pound
mass 0.028349523 oz ounce
mass 6.35029318 stone
time 0.001 ms millisecond
time 1 s sec second Sekunde Sekunden seconde segundo 秒 秒钟
time 60 min minute Minuten minuto 分钟 分間 минут
time 3600 h hr hrs hour Stunde Stunden heure hora 小时 時間 часов часа
time 86400 day Tag Tage Tagen jour jours día días 天 日 дней
time 604800 week Woche Wochen semaine semana 周 星期
time 2629800 month Monat Monate Monaten mois mes meses 个月
time 31557600 yr yrs year Jahr Jahre Jahren an ans année années año años 岁 歲 лет года
time 315576000 decade
time 3155760000 century centuries
time 31557600000 millennium millennia
temperature 1 °C ℃ celsius degree_celsius degrees_celsius degrees_c degree_centigrade degrees_centigrade 摄氏度
temperature 1 grad_Celsius
temperature 0.5555555555555556 °F ℉ fahrenheit degree_fahrenheit degrees_fahrenheit degrees_f
temperature 1 K kelvin kelvins
angle 1 ° deg degree
speed 1 m/s metre_per_second metres_per_second meters_per_second
speed 0.2777777777777778 km/h kph kmh kmph km_per_hour kilometres_per_hour kilometers_per_hour km/hr
speed 0.2777777777777778 kilometre_an_hour kilometer_an_hour
speed 0.44704 mph miles_per_hour mile_per_hour mi/h mi_per_hour miles_an_hour
speed 0.5144444444444445 kn knot
speed 0.3048 ft/s feet_per_second
area 1 m2 m² m^2 sq_m sqm square_metre 平方米 Quadratmeter mètres_carrés
area 0.0001 cm2 cm² cm^2 sq_cm square_centimetre
area 1e6 km2 km² km^2 sq_km sqkm square_kilometre 平方公里 平方千米 Quadratkilometer kilomètre_carré
area 1e6 kilómetros_cuadrados kilomètres_carrés
area 10000 ha hectare Hektar hectárea 公顷
area 4046.8564224 acre
area 2589988.110336 mi2 mi² sq_mi square_mile
area 0.09290304 ft2 ft² sq_ft square_foot square_feet
volume 0.001 ml millilitre
volume 0.01 cl centilitre
volume 1 l L litre 升
volume 1000 m3 m³ m^3 cubic_metre
volume 1e12 km3 km³ km^3 cubic_kilometre
volume 28.316846592 ft3 ft³ cubic_foot cubic_feet
volume 3.785411784 gal gallon us_gallon
volume 0.473176473 pint
power 1 W watt
power 1000 kW kilowatt
power 1e6 MW megawatt
power 1e9 GW gigawatt
power 745.6998715822702 hp horsepower
frequency 1 Hz hertz
frequency 1000 kHz kilohertz
frequency 1e6 MHz megahertz
frequency 1e9 GHz gigahertz
pressure 1 Pa pascal
pressure 100 hPa mbar millibar hectopascal
pressure 1000 kPa kilopascal
pressure 100000 bar
energy 1 J joule
energy 1000 kJ kilojoule
energy 4184 kcal kilocalorie
percent 1 % percent per_cent percentage Prozent pour_cent por_ciento pct
usd 1 $ US$ usd dollar us_dollar 美元 美金
eur 1 € eur euro 欧元
gbp 1 £ gbp pound_sterling pounds_sterling 英镑 quid
jpy 1 ¥ jpy yen 日元 円 日圆
inr 1 ₹ inr rupee
cny 1 cny rmb yuan 元 人民币
"""
_OFFSETS = {"°F": 459.67 * 5 / 9, "°C": 273.15}  # added after the factor: kelvins
_SHORT = frozenset("km cm mm kg mg ft lb oz ml mi yd ha".split())
CURRENCIES = frozenset({"usd", "eur", "gbp", "jpy", "inr", "cny"})


@dataclass(frozen=True)
class Unit:
    """`base = raw * factor + offset` in the base unit of `dimension`."""

    dimension: str
    factor: float
    offset: float = 0.0

    def base(self, raw: float) -> float:
        return raw * self.factor + self.offset


def _spellings(name: str) -> set[str]:
    """With plurals, and both -metre and -meter."""
    text = name.replace("_", " ")
    forms = {text}
    if len(text) >= 3 and text[-1].isalpha() and not text.endswith("s") and " per " not in text:
        forms.add(f"{text}s")
    for british, american in (("metre", "meter"), ("litre", "liter"), ("gramme", "gram")):
        forms |= {form.replace(british, american) for form in forms}
    return forms


@cache
def _units() -> tuple[dict[str, Unit], dict[str, Unit]]:
    """By exact spelling, and by spelling in lower case."""
    exact: dict[str, Unit] = {}
    folded: dict[str, Unit] = {}
    for line in _TABLE.strip().splitlines():
        dimension, factor, *names = line.split()
        unit = Unit(dimension, float(factor), _OFFSETS.get(names[0], 0.0))
        for spelling in {form for name in names for form in _spellings(name)}:
            exact[spelling] = unit
            if len(spelling) > 2 or spelling in {
                "km",
                "cm",
                "mm",
                "kg",
                "mg",
                "ft",
                "lb",
                "oz",
                "ml",
                "mi",
                "yd",
                "ha",
            }:
                folded.setdefault(spelling.lower(), unit)
    return exact, folded


def find_unit(name: str) -> Unit | None:
    """The unit of that spelling: case decides only where it must (K and k, M and m)."""
    exact, folded = _units()
    text = " ".join(name.split())
    return exact.get(text) or folded.get(text.lower())


@cache
def unit_pattern() -> str:
    """A regular expression of every spelling, the longest first; for IGNORECASE, `find_unit` then looks closer."""
    spellings = sorted({s for table in _units() for s in table}, key=len, reverse=True)
    return "|".join(re.escape(s).replace(r"\ ", r"\s+") for s in spellings)
