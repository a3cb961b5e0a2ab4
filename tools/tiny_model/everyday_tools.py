"""Tools of everyday kinds, each with requests in plain words: one function per kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import words

JsonObject = dict[str, Any]
TEXT: JsonObject = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Call:
    """One offered tool, a request that fits it, and the call that is right."""

    tool: JsonObject
    request: str
    arguments: JsonObject


def function(name: str, description: str, properties: JsonObject, required: list[str]) -> JsonObject:
    """A tool in the OpenAI form."""
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def place(rng: Random) -> str:
    """A listed or an invented city."""
    return rng.choice(words.CITIES) if rng.random() < 0.67 else words.syllables(rng).capitalize()


def weather(rng: Random) -> Call:
    """The weather of a city, now and then in a unit."""
    where, key = place(rng), rng.choice(["city", "city", "location", "place", "town"])
    names = "get_weather get_weather weather get_current_weather getWeather weather_lookup fetch_weather get_forecast"
    descriptions = [
        "Get the weather",
        "Get the current weather in a city",
        "Current weather for a place",
        "Returns the weather of a city.",
        "Get weather information",
    ]
    notes = ["The city", "City name", "The name of the city", "Where"]
    properties: JsonObject = {key: {**TEXT, "description": rng.choice(notes)} if rng.random() < 0.5 else TEXT}
    arguments = {key: where}
    requests = [
        "What is the weather in {p}?",
        "What's the weather like in {p}?",
        "How is the weather in {p}?",
        "Weather in {p}?",
        "Tell me the weather in {p}.",
        "Is it raining in {p}?",
        "What is the weather in {p} today?",
        "Get the weather for {p}.",
        "Is it cold in {p}?",
        "Do I need an umbrella in {p}?",
        "weather {p}",
        "What's the temperature in {p}?",
        "Please check the weather in {p}.",
        "How warm is it in {p}?",
    ]
    request = rng.choice(requests).format(p=where)
    if rng.random() < 0.25:
        unit = rng.choice(["celsius", "fahrenheit"])
        properties["unit"] = {**TEXT, "enum": ["celsius", "fahrenheit"]}
        if rng.random() < 0.6:
            arguments["unit"] = unit
            request = request.rstrip("?.") + f" in {unit}" + rng.choice(["?", "."])
    return Call(function(rng.choice(names.split()), rng.choice(descriptions), properties, [key]), request, arguments)


def clock(rng: Random) -> Call:
    """The time in a city."""
    where, key = place(rng), rng.choice(["city", "timezone", "location", "place"])
    requests = ["What time is it in {p}?", "Tell me the time in {p}.", "Current time in {p}?", "How late is it in {p}?"]
    description = rng.choice(["Get the current time", "Get the time in a city", "Tells the time of a place"])
    name = rng.choice(["get_time", "get_current_time", "time", "clock"])
    return Call(function(name, description, {key: TEXT}, [key]), rng.choice(requests).format(p=where), {key: where})


def search(rng: Random) -> Call:
    """A search for some words."""
    key = rng.choice(["query", "q", "text", "search_query", "term"])
    what = " ".join(words.word(rng) for _ in range(rng.randint(1, 3)))
    requests = [
        "Search for {x}.",
        "Search the web for {x}",
        "Look up {x}.",
        "Find information about {x}.",
        "Google {x}",
        "search {x}",
        "Can you search for {x}?",
    ]
    description = rng.choice(["Search the web", "Search for information", "Find pages on the internet"])
    name = rng.choice(["search", "web_search", "search_web", "google_search", "lookup"])
    return Call(function(name, description, {key: TEXT}, [key]), rng.choice(requests).format(x=what), {key: what})


def two_numbers(rng: Random) -> Call:
    """A sum or a product of two numbers."""
    first, second = rng.randint(0, 999), rng.randint(0, 999)
    keys = rng.choice([("a", "b"), ("x", "y"), ("first", "second"), ("left", "right"), ("num1", "num2")])
    if rng.random() < 0.5:
        verb, names = "Add", ["add", "add_numbers", "sum", "addition"]
        requests = ["What is {a} plus {b}?", "Add {a} and {b}.", "What is {a} + {b}?", "Please add {a} and {b}."]
    else:
        verb, names = "Multiply", ["multiply", "multiply_numbers", "product", "mul"]
        requests = ["What is {a} times {b}?", "Multiply {a} and {b}.", "What is {a} * {b}?", "Multiply {a} by {b}."]
    number = {"type": rng.choice(["integer", "number"])}
    tool = function(rng.choice(names), f"{verb} two numbers", {keys[0]: number, keys[1]: number}, list(keys))
    return Call(tool, rng.choice(requests).format(a=first, b=second), {keys[0]: first, keys[1]: second})


def email(rng: Random) -> Call:
    """A message to someone."""
    to = f"{words.name(rng).lower()}@{words.word(rng)}.com" if rng.random() < 0.3 else words.name(rng)
    what = words.sentence(rng)
    keys = rng.choice([("to", "body"), ("recipient", "message"), ("to", "text"), ("address", "body")])
    requests = [
        "Send an email to {t} saying: {x}",
        "Write an email to {t}: {x}",
        'Send {t} the message "{x}"',
        "Email {t}: {x}",
        "Send a message to {t}: {x}",
    ]
    name = rng.choice(["send_email", "email", "send_message", "sendMail"])
    description = rng.choice(["Send an email", "Send a message to someone"])
    tool = function(name, description, {keys[0]: TEXT, keys[1]: TEXT}, list(keys))
    return Call(tool, rng.choice(requests).format(t=to, x=what), {keys[0]: to, keys[1]: what})


def calculator(rng: Random) -> Call:
    """A calculation as one expression."""
    expression = f"{rng.randint(1, 999)} {rng.choice(['+', '-', '*', '/'])} {rng.randint(1, 999)}"
    key = rng.choice(["expression", "expr", "formula", "input"])
    requests = ["What is {x}?", "Calculate {x}.", "Compute {x}", "How much is {x}?", "{x}"]
    description = rng.choice(["Evaluate a calculation", "Calculate an expression", "Does arithmetic"])
    name = rng.choice(["calculator", "calculate", "evaluate", "math"])
    request = rng.choice(requests).format(x=expression)
    return Call(function(name, description, {key: TEXT}, [key]), request, {key: expression})


def convert(rng: Random) -> Call:
    """An amount in another unit."""
    units = ["euros", "dollars", "pounds", "yen", "metres", "feet", "miles", "kilometres", "grams"]
    values = (rng.randint(1, 500), *rng.sample(units, 2))
    keys = rng.choice([("amount", "from", "to"), ("value", "from_unit", "to_unit"), ("amount", "source", "target")])
    requests = ["Convert {} {} to {}.", "How much is {} {} in {}?", "What are {} {} in {}?", "{} {} to {}"]
    name = rng.choice(["convert", "convert_units", "convert_currency", "unit_converter"])
    properties = {keys[0]: {"type": "number"}, keys[1]: TEXT, keys[2]: TEXT}
    tool = function(name, "Convert an amount from one unit to another", properties, list(keys))
    return Call(tool, rng.choice(requests).format(*values), dict(zip(keys, values, strict=True)))


def stock(rng: Random) -> Call:
    """The price of a stock."""
    symbol = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 4)))
    key = rng.choice(["symbol", "ticker", "stock"])
    requests = ["What is the stock price of {x}?", "How much is {x} stock?", "Get the price of {x}.", "Price of {x}?"]
    name = rng.choice(["get_stock_price", "stock_price", "get_price", "quote"])
    request = rng.choice(requests).format(x=symbol)
    return Call(function(name, "Get the price of a stock", {key: TEXT}, [key]), request, {key: symbol})


def remind(rng: Random) -> Call:
    """A reminder at a time."""
    what = f"{rng.choice(words.VERBS)} the {words.word(rng)}"
    when = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    keys = rng.choice([("text", "time"), ("message", "at"), ("task", "time"), ("reminder", "when")])
    requests = [
        "Remind me to {x} at {t}.",
        "Set a reminder to {x} at {t}.",
        "Please remind me at {t} to {x}.",
        "Reminder: {x} at {t}",
    ]
    name = rng.choice(["set_reminder", "remind", "create_reminder", "add_reminder"])
    tool = function(name, "Set a reminder", {keys[0]: TEXT, keys[1]: TEXT}, list(keys))
    return Call(tool, rng.choice(requests).format(x=what, t=when), {keys[0]: what, keys[1]: when})


def light(rng: Random) -> Call:
    """A light on or off."""
    room = rng.choice(["kitchen", "bedroom", "garden", "office", words.word(rng)])
    state = rng.choice(["on", "off"])
    requests = [
        "Turn {s} the light in the {r}.",
        "Switch the {r} light {s}.",
        "Turn the light in the {r} {s}.",
        "Lights {s} in the {r}!",
    ]
    keys = rng.choice([("room", "state"), ("location", "state"), ("room", "power")])
    name = rng.choice(["set_light", "switch_light", "light", "control_light"])
    properties = {keys[0]: TEXT, keys[1]: {**TEXT, "enum": ["on", "off"]}}
    tool = function(name, "Switch a light on or off", properties, list(keys))
    return Call(tool, rng.choice(requests).format(r=room, s=state), {keys[0]: room, keys[1]: state})


def play(rng: Random) -> Call:
    """A song."""
    what = " ".join(words.word(rng) for _ in range(rng.randint(1, 3)))
    key = rng.choice(["song", "title", "track", "name"])
    name = rng.choice(["play_music", "play_song", "play", "music_player"])
    requests = ["Play {x}.", "Play the song {x}.", "I want to hear the song {x}.", "Please play {x}"]
    request = rng.choice(requests).format(x=what)
    return Call(function(name, "Play a song", {key: TEXT}, [key]), request, {key: what})


def translate(rng: Random) -> Call:
    """A sentence in another language."""
    what, language = words.sentence(rng), rng.choice(["French", "German", "Spanish", "Italian", "Japanese"])
    keys = rng.choice([("text", "language"), ("text", "target_language"), ("text", "to")])
    name = rng.choice(["translate", "translate_text", "translator"])
    requests = ['Translate "{x}" into {l}.', "Translate to {l}: {x}", 'How do you say "{x}" in {l}?']
    tool = function(name, "Translate a text", {keys[0]: TEXT, keys[1]: TEXT}, list(keys))
    return Call(tool, rng.choice(requests).format(x=what, l=language), {keys[0]: what, keys[1]: language})


def read_file(rng: Random) -> Call:
    """The contents of a file."""
    folder, kind = rng.choice(["/", "", "src/", "/tmp/"]), rng.choice(["txt", "py", "md", "json"])
    path, key = f"{folder}{words.word(rng)}.{kind}", rng.choice(["path", "filename", "file", "file_path"])
    name = rng.choice(["read_file", "open_file", "cat", "readFile"])
    requests = ["Read the file {x}.", "Open {x}.", "Show me the file {x}.", "What is in {x}?", "Read {x}"]
    return Call(function(name, "Read a file", {key: TEXT}, [key]), rng.choice(requests).format(x=path), {key: path})


def dice(rng: Random) -> Call:
    """A tool without arguments."""
    name = rng.choice(["roll_dice", "roll", "throw_die", "random_number"])
    request = rng.choice(["Roll a die.", "Roll the dice!", "Throw a die.", "Please roll a die"])
    return Call(function(name, "Roll a die", {}, []), request, {})


def population(rng: Random) -> Call:
    """The population of an invented country."""
    country, key = words.syllables(rng, 2).capitalize(), rng.choice(["country", "name"])
    requests = ["What is the population of {x}?", "How many people live in {x}?", "Population of {x}?"]
    tool = function(rng.choice(["get_population", "population"]), "Get the population of a country", {key: TEXT}, [key])
    return Call(tool, rng.choice(requests).format(x=country), {key: country})


KINDS: list[Callable[[Random], Call]] = [
    *(weather, weather, weather, clock, search, two_numbers, two_numbers, email, calculator, convert),
    *(stock, remind, light, play, translate, read_file, dice, population),
]


def everyday_call(rng: Random) -> Call:
    """A tool of an everyday kind with a request in plain words."""
    return rng.choice(KINDS)(rng)
