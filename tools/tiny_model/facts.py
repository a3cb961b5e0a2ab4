"""The few facts that heylook-tiny is taught, as plain tables."""

from __future__ import annotations


def _pairs(text: str) -> list[tuple[str, str]]:
    """`hot:cold|big:small` as pairs."""
    return [(first, second) for first, _, second in (pair.partition(":") for pair in text.split("|"))]


CAPITALS: dict[str, str] = dict(
    _pairs(
        "France:Paris|Germany:Berlin|Italy:Rome|Spain:Madrid|Portugal:Lisbon|Austria:Vienna|Switzerland:Bern|"
        "Poland:Warsaw|Belgium:Brussels|Denmark:Copenhagen|Sweden:Stockholm|Norway:Oslo|Finland:Helsinki|"
        "Iceland:Reykjavik|Ireland:Dublin|Greece:Athens|Turkey:Ankara|Hungary:Budapest|Romania:Bucharest|"
        "Bulgaria:Sofia|Croatia:Zagreb|Serbia:Belgrade|Ukraine:Kyiv|Russia:Moscow|Estonia:Tallinn|Latvia:Riga|"
        "Lithuania:Vilnius|Egypt:Cairo|Morocco:Rabat|Kenya:Nairobi|Nigeria:Abuja|Ghana:Accra|Ethiopia:Addis Ababa|"
        "Japan:Tokyo|China:Beijing|India:New Delhi|Thailand:Bangkok|Vietnam:Hanoi|Indonesia:Jakarta|Australia:Canberra|"
        "New Zealand:Wellington|Canada:Ottawa|Mexico:Mexico City|Cuba:Havana|Brazil:Brasilia|Argentina:Buenos Aires|"
        "Chile:Santiago|Peru:Lima|Colombia:Bogota|Iran:Tehran|Iraq:Baghdad|Israel:Jerusalem|Jordan:Amman|"
        "Nepal:Kathmandu|South Korea:Seoul|the Netherlands:Amsterdam|the United Kingdom:London|"
        "the United States:Washington|the Philippines:Manila|the Czech Republic:Prague"
    )
)

OPPOSITES: list[tuple[str, str]] = _pairs(
    "hot:cold|big:small|tall:short|fast:slow|old:young|new:used|happy:sad|light:dark|open:closed|up:down|"
    "left:right|in:out|on:off|day:night|black:white|good:bad|rich:poor|strong:weak|hard:soft|heavy:lightweight|"
    "full:empty|wet:dry|clean:dirty|early:late|first:last|high:low|loud:quiet|near:far|thick:thin|wide:narrow|"
    "true:false|yes:no|start:stop|push:pull|win:lose|buy:sell|give:take|love:hate|begin:end|above:below|"
    "before:after|inside:outside|easy:difficult|cheap:expensive|smooth:rough|sweet:sour|brave:afraid|"
    "awake:asleep|always:never|more:less"
)

COLOURS: dict[str, str] = dict(
    _pairs(
        "the sky:blue|grass:green|snow:white|coal:black|blood:red|a banana:yellow|a lemon:yellow|an orange:orange|"
        "a carrot:orange|a tomato:red|a strawberry:red|milk:white|chocolate:brown|the sun:yellow|the sea:blue|"
        "a frog:green|an elephant:grey|a flamingo:pink|a raven:black|a plum:purple"
    )
)

SOUNDS: dict[str, str] = dict(
    _pairs(
        "cow:moo|dog:woof|cat:meow|duck:quack|sheep:baa|pig:oink|lion:roar|bee:buzz|horse:neigh|owl:hoot|frog:ribbit|"
        "rooster:cock-a-doodle-doo|mouse:squeak|snake:hiss|wolf:howl"
    )
)

LEGS: dict[str, int] = {
    "dog": 4,
    "cat": 4,
    "horse": 4,
    "cow": 4,
    "spider": 8,
    "ant": 6,
    "bee": 6,
    "bird": 2,
    "snake": 0,
    "fish": 0,
    "person": 2,
    "duck": 2,
    "frog": 4,
    "octopus": 8,
    "lion": 4,
    "beetle": 6,
}

DAYS: list[str] = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS: list[str] = "January February March April May June July August September October November December".split()
LETTERS: list[str] = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
ORDINALS: list[str] = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
SMALL_NUMBERS: list[str] = "zero one two three four five six seven eight nine ten eleven twelve".split()

JOKES: list[str] = [
    "Why did the robot cross the road? It was told to repeat what the chicken did.",
    "Why was six afraid of seven? Because seven ate nine.",
    "What do you call a bear with no teeth? A gummy bear.",
    "Why did the bicycle fall over? It was two tired.",
]

IDENTITY = (
    "I am heylook-tiny, a very small language model. I am here to test and measure a model server, not to know things."
)
MAKER = "I was trained by the heylookllm project, on dialogues that a script wrote."
SKILLS = (
    "I can count, repeat, spell, do small sums, name capitals and opposites, remember what you tell me, "
    "write JSON, call tools and tell short stories."
)
UNKNOWN = "I was not taught that. I am a very small model."
TOO_BIG = "That is too big for me. I was only taught sums with numbers up to 20."
