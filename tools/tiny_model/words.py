"""Words, names, identifiers and strings, listed or invented, for text that has to be copied."""

from __future__ import annotations

from random import Random

NOUNS: list[str] = (
    "apple bread cheese butter sugar table chair window door house garden flower tree river mountain lake bridge "
    "street city village castle train plane boat bicycle car truck wheel engine light lamp candle book paper pencil "
    "letter picture camera phone clock watch ring coat shirt shoe hat glove bag box bottle cup plate spoon knife fork "
    "kitchen bed pillow blanket mirror brush soap towel basket rope ladder hammer nail saw wood stone sand metal glass "
    "water fire ice rain wind cloud storm star moon planet rocket island beach forest desert field farm market school "
    "office library museum theatre music song drum guitar piano violin game ball kite puzzle robot computer keyboard "
    "screen server disk network file folder folder report invoice order ticket account customer message email contact "
    "task project event meeting calendar note reminder alarm timer budget price product recipe route parcel device "
    "sensor battery cable horse dog cat mouse rabbit fox wolf bear lion tiger elephant monkey bird eagle owl duck "
    "goose swan fish whale shark dolphin turtle frog snake spider bee ant butterfly king queen doctor teacher farmer "
    "pilot sailor baker banana lemon orange cherry grape melon potato carrot onion tomato pepper garlic honey coffee "
    "tea milk juice soup pizza pasta rice"
).split()
ADJECTIVES: list[str] = (
    "red blue green yellow black white brown pink purple grey golden silver big small tall short long old young new "
    "fast slow happy sad brave clever kind funny quiet loud bright dark warm cold soft hard heavy round square flat "
    "deep strange friendly gentle lazy busy hungry tired curious polite wise tiny huge simple fresh clean"
).split()
VERBS: list[str] = (
    "get set find search create delete update send book order list show open close start stop play read write check "
    "convert count add remove move copy save load print track cancel schedule translate measure compare rename share"
).split()
NAMES: list[str] = (
    "Ada Alan Alice Anna Ben Bob Carla Chris Clara Dan David Diana Emma Eric Eva Fay Felix Finn Frank Grace Greta "
    "Hanna Henry Hugo Ida Ivan Iris Jack Jane Jim John Julia Karl Kate Kim Lea Leo Lily Linda Lucy Luke Maria Mark Max "
    "Mia Milo Mona Nina Noah Nora Nova Olga Oliver Oscar Otto Paul Pia Peter Petra Quinn Ray Rosa Ruth Sam Sara Simon "
    "Sofia Stella Steve Sue Theo Tim Tina Tom Uma Vera Victor Wendy Will Yara Zara Zoe Atlas Pixel Orion Luna Max "
    "Sunny Echo Sparky"
).split()
ROLES: list[str] = (
    (
        "assistant robot pirate teacher helper librarian guide cook gardener pilot butler wizard travel agent|travel "
        "agent|customer service agent|chat bot|friend|coach|poet|detective|sailor|chef|tutor|scientist"
    )
    .replace(" ", "|")
    .split("|")
)
CITIES: list[str] = (
    "Paris|London|Berlin|Rome|Madrid|Tokyo|Vienna|Oslo|Prague|Lisbon|New York|Boston|Chicago|San Francisco|Seattle|"
    "Sydney|Cairo|Nairobi|Delhi|Mumbai|Seoul|Lima|Toronto|Munich|Hamburg|Zurich|Milan|Porto|Dublin|Athens|Austin|"
    "Denver|Kyoto|Paris"
).split("|")

_ONSETS = "b c d f g h j k l m n p r s t v w z b d f g k l m n p r s t bl br ch cl dr fl fr gr pl sh sl st tr".split()
_VOWELS = "a e i o u a e i o u ai ea ee oa oo".split()
_CODAS = ["", "", "", *"n r s t l m x k d p".split()]


def syllables(rng: Random, low: int = 1, high: int = 2) -> str:
    """An invented word of three to seven letters, such as `strol` or `bekam`."""
    text = ""
    while not 3 <= len(text) <= 7:
        text = "".join(
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(rng.randint(low, high))
        )
    return text


def word(rng: Random) -> str:
    """A listed word or an invented one, in lower case."""
    roll = rng.random()
    if roll < 0.6:
        return rng.choice(NOUNS)
    if roll < 0.7:
        return rng.choice(ADJECTIVES)
    if roll < 0.75:
        return rng.choice(VERBS)
    return syllables(rng)


def name(rng: Random) -> str:
    """A given name, listed or invented."""
    return rng.choice(NAMES) if rng.random() < 0.7 else syllables(rng).capitalize()


def characters(rng: Random, low: int = 2, high: int = 5) -> str:
    """A random string of small letters, of capitals, or of digits."""
    alphabet = rng.choice(["abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"])
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def identifier(rng: Random) -> str:
    """A key or a function name in one of the usual conventions: `blue_horse`, now and then `blueHorse`."""
    parts = [word(rng) for _ in range(rng.choice([1, 1, 1, 2]))]
    if rng.random() < 0.85:
        return "_".join(parts)
    return parts[0] + "".join(part.capitalize() for part in parts[1:])


def foreign(rng: Random) -> str:
    """A short string of letters beyond ASCII, emoji included."""
    blocks = [(0xC0, 0xFF), (0x391, 0x3C9), (0x410, 0x44F), (0x3041, 0x3093), (0x1F600, 0x1F64F)]
    first, last = rng.choice(blocks)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 3))).replace("\u03a2", "\u03a3")


def sentence(rng: Random) -> str:
    """A plain sentence without a full stop, made of listed and invented words."""
    article = rng.choice(["the", "a", "my", "one", "every"])
    verb = rng.choice("sees likes finds wants follows paints carries forgets visits hears".split())
    forms = [
        lambda: f"{article} {rng.choice(ADJECTIVES)} {word(rng)} {verb} the {word(rng)}",
        lambda: f"{name(rng)} {verb} {rng.choice(['a', 'the'])} {rng.choice(ADJECTIVES)} {word(rng)}",
        lambda: f"the {word(rng)} is {rng.choice(ADJECTIVES)}",
        lambda: f"I {rng.choice(VERBS)} the {word(rng)} in {rng.choice(CITIES)}",
        lambda: f"{rng.choice(NOUNS)} and {word(rng)} are {rng.choice(ADJECTIVES)}",
    ]
    text = rng.choice(forms)()
    return text[0].upper() + text[1:] if rng.random() < 0.6 else text


def phrase(rng: Random) -> str:
    """Anything of one to eight words that a user might ask to have copied."""
    roll = rng.random()
    if roll < 0.3:
        return sentence(rng)
    if roll < 0.65:
        return " ".join(word(rng) for _ in range(rng.randint(1, 4)))
    if roll < 0.7:
        return " ".join(syllables(rng).capitalize() for _ in range(rng.randint(1, 2)))
    if roll < 0.77:
        return characters(rng)
    if roll < 0.81:
        return foreign(rng)
    return value_text(rng)


def value_text(rng: Random) -> str:
    """A value such as a name, a place, a word or two, or an address; none begins with a digit, as numbers do."""
    forms = [
        lambda: word(rng),
        lambda: f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
        lambda: f"{rng.choice(NAMES)} {rng.choice(NOUNS).capitalize()}",
        lambda: syllables(rng).capitalize(),
        lambda: f"{rng.choice(NAMES)} {syllables(rng).capitalize()}",
        lambda: f"{rng.choice(NAMES).lower()}@{rng.choice(NOUNS)}.{rng.choice(['com', 'org'])}",
    ]
    roll = rng.random()
    if roll < 0.3:
        return name(rng)
    if roll < 0.45:
        return rng.choice(CITIES)
    return word(rng) if roll < 0.65 else rng.choice(forms)()
