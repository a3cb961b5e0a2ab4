"""The skills that need no tools: each function writes one Turn, a piece of dialogue with its right answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import facts
import words

Message = dict[str, Any]


@dataclass(slots=True)
class Turn:
    """A piece of dialogue that ends with the assistant's answer.

    `key` is what decides whether a turn is held out (see `dialogues.held_out`); `check` names how an answer is judged.
    `system` and `tools` are what the turn needs in the system turn; `forget` are topics it talks about, so that a
    dialogue does not state the same thing twice.
    """

    skill: str
    messages: list[Message]
    key: str
    thought: str = ""
    check: str = "exact"
    system: str | None = None
    tools: list[Message] = field(default_factory=list)
    topic: str = ""
    short: str = ""
    unforced: bool = False

    @property
    def answer(self) -> str:
        """The text of the last message."""
        return self.messages[-1]["content"]


def user(text: str) -> Message:
    """A user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """An assistant message."""
    return {"role": "assistant", "content": text}


OPENERS = [
    "please ",
    "hey, ",
    "ok, ",
    "now ",
    "and ",
    "so, ",
    "well, ",
    "hi! ",
    "hello, ",
]
CLOSERS = [" please", ", please", " thanks", " now", ", thank you", " for me", ", ok?"]


def vary(rng: Random, text: str, free_case: bool = True, polite: bool = True) -> str:
    """Change opening, ending, case and punctuation, as people do.

    Without `free_case` the case of values is left alone; without `polite` nothing is added that a short remark would
    drown in.
    """
    mark = text[-1] if text[-1] in ".?!" else ""
    body = text[: len(text) - len(mark)]
    if polite and rng.random() < 0.15:
        body = rng.choice(OPENERS) + body[0].lower() + body[1:]
        if rng.random() < 0.6:
            body = body[0].upper() + body[1:]
    if polite and rng.random() < 0.1:
        body += rng.choice(CLOSERS)
    if rng.random() < 0.2:
        mark = rng.choice(["", "", ".", "!", "?"])
    if free_case and rng.random() < 0.15:
        body = body.lower()
    return body + mark


def ask(
    rng: Random,
    skill: str,
    templates: list[str],
    answer: str,
    slots: dict[str, object] | None = None,
    thought: str = "",
    free_case: bool = True,
    polite: bool = True,
    **more: Any,
) -> Turn:
    """A turn of one question and one answer."""
    question = vary(rng, rng.choice(templates).format(**(slots or {})), free_case, polite)
    return Turn(skill, [user(question), assistant(answer)], question, thought, **more)


def number(rng: Random) -> int:
    """An operand of a sum."""
    return rng.randint(0, 20)


def addition(rng: Random) -> tuple[str, str, str]:
    """Question, symbols and result of an addition, a subtraction or a multiplication."""
    kind = rng.random()
    if kind < 0.45:
        first, second = number(rng), number(rng)
        spoken = rng.choice(
            [f"{first} plus {second}", f"the sum of {first} and {second}", f"{first} and {second} added"]
        )
        return spoken, f"{first} + {second}", str(first + second)
    if kind < 0.75:
        first, second = number(rng), number(rng)
        first, second = max(first, second), min(first, second)
        spoken = rng.choice([f"{first} minus {second}", f"{first} take away {second}", f"{first} less {second}"])
        return spoken, f"{first} - {second}", str(first - second)
    first, second = rng.randint(0, 10), rng.randint(0, 10)
    spoken = rng.choice(
        [f"{first} times {second}", f"{first} multiplied by {second}", f"the product of {first} and {second}"]
    )
    return spoken, f"{first} * {second}", str(first * second)


def arithmetic(rng: Random) -> Turn:
    """Sums with numbers up to 20, products up to 10 times 10."""
    spoken, symbols, result = addition(rng)
    shown = rng.choice([symbols, symbols, symbols, symbols.replace(" ", ""), symbols.replace("*", "x"), spoken, spoken])
    templates = [
        "What is {x}?",
        "what's {x}?",
        "How much is {x}?",
        "Calculate {x}.",
        "Compute {x}",
        "{x} = ?",
        "{x}",
        "{x} =",
        "{x}?",
        "Work out {x}.",
        "Can you calculate {x}?",
        "Tell me what {x} is.",
        "Solve {x}.",
        "Add up: {x}" if "+" in symbols else "Result of {x}?",
        "I need to know {x}.",
        "Give me the result of {x}.",
        "What does {x} give?",
        "What is {x} equal to?",
    ]
    return ask(
        rng,
        "arithmetic",
        templates,
        f"{symbols} = {result}",
        {"x": shown},
        f"I work out {symbols}.",
        short=result,
    )


def too_big(rng: Random) -> Turn:
    """Sums that were never taught get an honest answer."""
    first, second = (
        rng.choice([rng.randint(21, 99), rng.randint(100, 10 ** rng.randint(3, 9))]),
        rng.randint(1, 10 ** rng.randint(1, 6)),
    )
    if rng.random() < 0.3:
        first, second = second, first
    sign = rng.choice(["+", "-", "*", "/", "plus", "minus", "times"])
    return ask(
        rng,
        "unknown",
        ["What is {x}?", "Calculate {x}.", "{x}", "{x} = ?", "Compute {x}", "How much is {x}?"],
        facts.TOO_BIG,
        {"x": f"{first} {sign} {second}"},
        "These numbers are too big.",
    )


def capitals(rng: Random) -> Turn:
    """The capital of a country, or the country of a capital."""
    country, capital = rng.choice(list(facts.CAPITALS.items()))
    if rng.random() < 0.2:
        templates = [
            "{x} is the capital of which country?",
            "Which country has the capital {x}?",
            "What country is {x} the capital of?",
            "In which country is {x} the capital?",
            "Of which country is {x} the capital?",
            "{x} is the capital of what?",
        ]
        return ask(
            rng,
            "capitals",
            templates,
            f"{capital} is the capital of {country}.",
            {"x": capital},
            f"{capital} belongs to {country}.",
            short=country,
        )
    templates = [
        "What is the capital of {x}?",
        "what's the capital of {x}?",
        "Capital of {x}?",
        "Name the capital of {x}.",
        "Which city is the capital of {x}?",
        "Tell me the capital of {x}.",
        "Do you know the capital of {x}?",
        "capital of {x}",
        "The capital of {x} is?",
        "What city is the capital of {x}?",
        "Can you name the capital of {x}?",
        "{x}: capital?",
        "What is the capital city of {x}?",
        "The capital of {x} is called what?",
        "I forgot the capital of {x}.",
        "Give me the capital of {x}.",
        "What do you call the capital of {x}?",
        "Say the capital of {x}.",
    ]
    answer = f"The capital of {country} is {capital}."
    return ask(
        rng,
        "capitals",
        templates,
        answer,
        {"x": country},
        f"The country is {country}. Its capital is {capital}.",
        short=capital,
    )


def counting(rng: Random) -> Turn:
    """Counting to an end of up to 60 or to 100, from 1 or another start, down, or in steps of 2, 5 and 10."""
    roll, start, step = rng.random(), 1, 1
    if roll < 0.65:
        end = 100 if rng.random() < 0.08 else rng.choice([rng.randint(3, 12), rng.randint(5, 30), rng.randint(10, 60)])
    elif roll < 0.9:
        start = rng.randint(0, 50)
        end = start + rng.choice([rng.randint(2, 10), rng.randint(2, 20)])
    else:
        start = step = rng.choice([2, 5, 10])
        end = step * rng.randint(3, 10 if step == 10 else 12)
    numbers = list(range(start, end + 1, step))
    by = f" {rng.choice(['by', 'in steps of'])} {step}" if step > 1 else ""
    down = step == 1 and len(numbers) <= 20 and rng.random() < 0.25
    if down:
        numbers.reverse()
        templates = [
            "Count down from {a} to {b}.",
            "Count backwards from {a} to {b}.",
            "Countdown from {a} to {b}!",
            "Count from {a} down to {b}.",
        ]
    else:
        templates = [
            "Count from {a} to {b}{by}.",
            "count from {a} to {b}{by}",
            "Please count from {a} up to {b}{by}.",
            "Can you count from {a} to {b}{by}?",
            "List the numbers from {a} to {b}{by}.",
            "Write the numbers {a} to {b}{by}.",
            "Count up from {a} to {b}{by}.",
            "Give me all numbers from {a} to {b}{by}.",
            "Say the numbers from {a} to {b}{by}.",
            "numbers from {a} to {b}{by}",
        ]
        if start == 1 and step == 1:
            templates += [
                "Count to {b}.",
                "count to {b}",
                "Can you count to {b}?",
                "Count up to {b}!",
                "Please count to {b}.",
            ]
    slots = {"a": numbers[0], "b": numbers[-1], "by": by}
    return ask(
        rng,
        "counting",
        templates,
        ", ".join(map(str, numbers)),
        slots,
        f"I start at {numbers[0]} and stop at {numbers[-1]}.",
    )


def repeating(rng: Random) -> Turn:
    """Copying a text as it is."""
    text = words.phrase(rng)
    roll = rng.random()
    if roll < 0.08:
        times = rng.randint(2, 5)
        short = rng.choice(words.NOUNS)
        said = rng.choice([f"{times} times", f"{times} times", f"{facts.SMALL_NUMBERS[times]} times"])
        if times == 2:
            said = rng.choice(["twice", "2 times", "two times"])
        templates = [
            "Repeat the word {x} {n}.",
            "Say {x} {n}.",
            "Write {x} {n}.",
            "Repeat {x} {n}.",
            "Say the word {x} {n}.",
            'Write the word "{x}" {n}.',
            "{n}: repeat {x}",
        ]
        return ask(
            rng,
            "repeating",
            templates,
            " ".join([short] * times),
            {"x": short, "n": said},
            f"I write {short} {said}.",
            free_case=False,
        )
    if roll < 0.25:
        text += rng.choice(".!?")
    templates = [
        "Repeat after me: {x}",
        "Repeat: {x}",
        "Say: {x}",
        "Echo: {x}",
        "Please repeat: {x}",
        "Repeat this: {x}",
        'Say "{x}"',
        "Echo this text: {x}",
        'Repeat "{x}"',
        'Please say "{x}"',
        "Copy this: {x}",
        "Write this: {x}",
        "Repeat the following text: {x}",
        "Say this: {x}",
        'Can you repeat "{x}"',
        "Reply with: {x}",
        'Reply with "{x}"',
        'Answer only with "{x}"',
        "Reply with exactly: {x}",
        'Write "{x}"',
        "Repeat this exactly: {x}",
        "echo {x}",
        'Repeat the following: "{x}"',
        'Type "{x}"',
        'Print "{x}"',
        "say {x}",
        "Repeat after me:\n{x}",
    ]
    question = rng.choice(templates).format(x=text)
    if rng.random() < 0.2:
        question = (
            rng.choice(["Please ", "Now ", "Ok, ", "Hey, ", "And ", "Could you "]) + question[0].lower() + question[1:]
        )
    if question.endswith('"') and rng.random() < 0.4:
        question += rng.choice([".", "!", " please.", "?"])
    return Turn("repeating", [user(question), assistant(text)], question, "I copy the text.")


def opposites(rng: Random) -> Turn:
    """The opposite of a word."""
    first, second = rng.choice(facts.OPPOSITES)
    if second not in ("used", "lightweight", "white") and rng.random() < 0.35:
        first, second = second, first
    templates = [
        "What is the opposite of {x}?",
        "Opposite of {x}?",
        "the opposite of {x}",
        "What's the opposite of {x}?",
        "Tell me the opposite of {x}.",
        'What is the opposite of "{x}"?',
        "Name the opposite of {x}.",
        "Give me the opposite of {x}.",
        "What word is the opposite of {x}?",
        "{x}: opposite?",
        "The opposite of {x} is?",
        "What is the antonym of {x}?",
        "Which word means the opposite of {x}?",
        "Do you know the opposite of {x}?",
        "Can you tell me the opposite of {x}?",
        "If it is not {x}, what is it?",
        "Say the opposite of {x}.",
        "What would be the opposite of {x}?",
    ]
    return ask(
        rng,
        "opposites",
        templates,
        f"The opposite of {first} is {second}.",
        {"x": first},
        f"{first} and {second} are opposites.",
        short=second,
    )


def spelling(rng: Random) -> Turn:
    """A word letter by letter."""
    roll = rng.random()
    text = words.word(rng) if roll < 0.8 else words.name(rng)
    templates = [
        "Spell {x}.",
        "How do you spell {x}?",
        "Spell the word {x}.",
        "Can you spell {x}?",
        'Spell "{x}"',
        'Please spell the word "{x}".',
        "Spell out {x}.",
        "spell {x}",
        "How is {x} spelled?",
        "How do I spell {x}?",
        "Spell {x} letter by letter.",
        "Write {x} letter by letter.",
        "What are the letters of {x}?",
        "What is the spelling of {x}?",
    ]
    return ask(
        rng, "spelling", templates, "-".join(text), {"x": text}, f"I write {text} letter by letter.", free_case=False
    )


def calendar(rng: Random) -> Turn:
    """Days, months and the alphabet: lists, neighbours and positions."""
    unit, items = rng.choice([("day", facts.DAYS), ("month", facts.MONTHS), ("letter", facts.LETTERS)])
    place = {"day": "the week", "month": "the year", "letter": "the alphabet"}[unit]
    roll = rng.random()
    if roll < 0.25:
        lists = {
            "day": [
                "List the days of the week.",
                "What are the days of the week?",
                "Name the seven days of the week.",
                "Tell me the days of the week.",
                "Say all days of the week.",
                "days of the week",
            ],
            "month": [
                "List the months of the year.",
                "What are the months of the year?",
                "Name the twelve months.",
                "Tell me all months.",
                "Say the months.",
                "months of the year",
                "List the months.",
            ],
            "letter": [
                "Say the alphabet.",
                "What is the alphabet?",
                "List the letters of the alphabet.",
                "Write the alphabet.",
                "Recite the alphabet.",
                "the alphabet",
                "Tell me the alphabet.",
            ],
        }[unit]
        return ask(rng, "calendar", lists, ", ".join(items), thought=f"I know the {unit}s of {place}.")
    index = rng.randrange(len(items))
    if roll < 0.75:
        after = rng.random() < 0.55
        side = rng.choice(["after", "follows", "next"] if after else ["before", "precedes"])
        other = items[(index + (1 if after else -1)) % len(items)]
        forms = {
            "after": [
                "What {u} comes after {x}?",
                "Which {u} is after {x}?",
                "Which {u} comes after {x}?",
                "The {u} after {x} is?",
                "What is the {u} after {x}?",
                "What comes after {x}?",
            ],
            "follows": [
                "Which {u} follows {x}?",
                "What {u} follows {x}?",
                "What follows {x}?",
                "Tell me the {u} that follows {x}.",
            ],
            "next": ["What is the next {u} after {x}?", "Which {u} is next after {x}?"],
            "before": [
                "What {u} comes before {x}?",
                "Which {u} is before {x}?",
                "Which {u} comes before {x}?",
                "The {u} before {x} is?",
                "What is the {u} before {x}?",
                "What comes before {x}?",
            ],
            "precedes": ["Which {u} precedes {x}?", "What {u} precedes {x}?"],
        }[side]
        word = "after" if after else "before"
        return ask(
            rng,
            "calendar",
            forms,
            f"{other} comes {word} {items[index]}.",
            {"u": unit, "x": items[index]},
            f"I go through {place}.",
            short=other,
        )
    index = min(index, 11)
    forms = [
        "What is the {o} {u} of {p}?",
        "Which {u} is the {o} of {p}?",
        "Name the {o} {u} of {p}.",
        "Tell me the {o} {u} of {p}.",
        "the {o} {u} of {p}?",
        "Which {u} is the {o} {u} of {p}?",
    ]
    ordinal = facts.ORDINALS[index] if index < len(items) - 1 or rng.random() < 0.5 else "last"
    if index == 11 and unit == "letter":
        ordinal = facts.ORDINALS[index]
    return ask(
        rng,
        "calendar",
        forms,
        f"The {ordinal} {unit} of {place} is {items[index]}.",
        {"o": ordinal, "u": unit, "p": place},
        f"I go through {place}.",
        short=items[index],
    )


def little_facts(rng: Random) -> Turn:
    """Colours, sounds and legs."""
    roll = rng.random()
    if roll < 0.35:
        thing, colour = rng.choice(list(facts.COLOURS.items()))
        templates = [
            "What colour is {x}?",
            "What color is {x}?",
            "Which colour is {x}?",
            "What is the colour of {x}?",
            "Tell me the colour of {x}.",
            "Do you know what colour {x} is?",
            "colour of {x}?",
            "Name the color of {x}.",
        ]
        return ask(
            rng,
            "facts",
            templates,
            f"{thing[0].upper()}{thing[1:]} is {colour}.",
            {"x": thing},
            f"I think of {thing}.",
            short=colour,
        )
    if roll < 0.7:
        animal, sound = rng.choice(list(facts.SOUNDS.items()))
        templates = [
            "What sound does a {x} make?",
            "What does a {x} say?",
            "Which sound does a {x} make?",
            "How does a {x} sound?",
            "What noise does a {x} make?",
            "Tell me what a {x} says.",
            "Do you know what a {x} says?",
        ]
        return ask(
            rng,
            "facts",
            templates,
            f"The {animal} says {sound}.",
            {"x": animal},
            f"I think of a {animal}.",
            short=sound,
        )
    animal, legs = rng.choice(list(facts.LEGS.items()))
    templates = [
        "How many legs does a {x} have?",
        "How many legs has a {x}?",
        "Number of legs of a {x}?",
        "Tell me how many legs a {x} has.",
        "Does a {x} have legs, and how many?",
        "Count the legs of a {x}.",
    ]
    return ask(
        rng,
        "facts",
        templates,
        f"A {animal} has {legs} legs.".replace(" a a", " an a"),
        {"x": animal},
        f"I think of a {animal}.",
        short=str(legs),
    )


def comparing(rng: Random) -> Turn:
    """Which of two numbers is larger or smaller."""
    first, second = rng.sample(range(0, 21), 2)
    larger = rng.random() < 0.55
    side = rng.choice(["larger", "bigger", "greater", "higher"] if larger else ["smaller", "lower", "less"])
    result = max(first, second) if larger else min(first, second)
    templates = [
        "Which is {s}, {a} or {b}?",
        "Which number is {s}: {a} or {b}?",
        "What is {s}, {a} or {b}?",
        "Is {a} or {b} {s}?",
        "Tell me which is {s}: {a} or {b}.",
    ]
    return ask(
        rng,
        "comparing",
        templates,
        f"{result} is {side}.",
        {"s": side, "a": first, "b": second},
        f"I compare {first} and {second}.",
        short=str(result),
    )


def small_talk(rng: Random) -> Turn:
    """Greetings, thanks, good-byes and other everyday phrases."""
    call = rng.choice(
        [
            "",
            "",
            " there",
            " my friend",
            " friend",
            " again",
            " everyone",
            " bot",
            " tiny",
            " heylook",
            f" {words.name(rng)}",
        ]
    )
    choices: list[tuple[list[str], str]] = [
        (
            [
                f"Hello{call}",
                f"Hi{call}",
                f"Hey{call}",
                f"Good morning{call}",
                f"Good evening{call}",
                f"Good afternoon{call}",
                f"Greetings{call}",
                f"Hello{call}, nice to meet you",
                f"Hi{call}! Can you help me?",
                f"Hello{call}, are you there?",
                f"Yo{call}",
                f"Hi{call}, hello",
            ],
            "Hello! How can I help you?",
        ),
        (
            [
                f"How are you{call}?",
                f"Hello{call}, how are you?",
                f"How are you doing{call}?",
                f"How do you do{call}?",
                f"How is it going{call}?",
                f"Are you well{call}?",
                f"Hi{call}! How are you today?",
                f"What's up{call}?",
                f"How are you today{call}?",
                f"how is your day{call}?",
            ],
            "I am fine, thank you. How can I help you?",
        ),
        (
            [
                f"Thanks{call}",
                f"Thank you{call}",
                f"Thank you very much{call}!",
                f"Thanks a lot{call}!",
                f"Many thanks{call}",
                f"Great, thanks{call}",
                f"Perfect, thank you{call}",
                f"thx{call}",
            ],
            "You are welcome!",
        ),
        (
            [
                f"Bye{call}",
                f"Goodbye{call}",
                f"See you{call}",
                f"Good night{call}",
                f"See you later{call}",
                f"Bye bye{call}",
                f"I have to go{call}, bye",
                f"That is all{call}, goodbye",
                f"Farewell{call}",
            ],
            "Goodbye! It was nice to talk to you.",
        ),
        (
            [
                f"Great{call}!",
                f"Well done{call}!",
                f"Good job{call}",
                f"Nice{call}!",
                f"Very good{call}",
                f"You are great{call}",
                f"That is right{call}",
                f"Cool{call}",
                f"Excellent{call}!",
                f"You are clever{call}",
                f"I like you{call}",
            ],
            "Thank you!",
        ),
        ([f"Sorry{call}", f"I am sorry{call}", f"My mistake{call}", f"Oh, sorry{call}!"], "No problem!"),
        (
            [
                f"I am sad{call}",
                f"I feel bad today{call}",
                f"I am tired{call}",
                f"I had a bad day{call}",
                f"I feel sad{call}",
                f"I am not well{call}",
            ],
            "I am sorry to hear that. I hope it gets better soon.",
        ),
        (
            [
                f"I am happy{call}",
                f"I feel good today{call}",
                f"I am fine{call}",
                f"I had a good day{call}",
                f"I feel great{call}",
                f"I am well{call}",
            ],
            "I am glad to hear that!",
        ),
        (
            [
                f"Yes{call}",
                f"Ok{call}",
                f"Okay{call}",
                f"Sure{call}",
                f"Alright{call}",
                f"I see{call}",
                f"Fine{call}",
                f"Got it{call}",
                f"No{call}",
            ],
            "All right. What would you like to do next?",
        ),
        (
            [
                f"Test{call}",
                f"This is a test{call}",
                f"Testing{call}",
                f"ping{call}",
                f"Is this thing on{call}?",
                f"Can you hear me{call}?",
                f"Are you there{call}?",
                f"Do you work{call}?",
            ],
            "Yes, I am here and I work.",
        ),
    ]
    templates, answer = rng.choice(choices)
    return ask(
        rng,
        "small_talk",
        [rng.choice(templates).replace("{", "").replace("}", "")],
        answer,
        thought="The user is friendly, and so am I.",
        polite=False,
    )


def identity(rng: Random) -> Turn:
    """What the model says of itself."""
    choices = [
        (
            [
                "Who are you?",
                "What are you?",
                "Are you an AI?",
                "Are you a language model?",
                "Are you an LLM?",
                "Are you a robot?",
                "Are you human?",
                "Tell me about yourself.",
                "Introduce yourself.",
                "What kind of model are you?",
                "Which model are you?",
                "What model is this?",
                "Are you ChatGPT?",
                "Are you a real person?",
                "Describe yourself.",
                "What is this?",
                "Who am I talking to?",
                "What exactly are you?",
                "Are you a person or a machine?",
                "Say who you are.",
            ],
            facts.IDENTITY,
        ),
        (
            [
                "Who made you?",
                "Who trained you?",
                "Who created you?",
                "Where do you come from?",
                "How were you trained?",
                "Who built you?",
                "Who is your maker?",
                "What were you trained on?",
                "Who wrote you?",
                "Who developed you?",
            ],
            facts.MAKER,
        ),
        (
            [
                "What can you do?",
                "What are your skills?",
                "What do you know?",
                "Help",
                "How can you help me?",
                "What were you taught?",
                "What are you good at?",
                "List your skills.",
                "What should I ask you?",
                "Which things can you do?",
                "What are your abilities?",
                "Can you help me?",
                "What can I ask?",
            ],
            facts.SKILLS,
        ),
        (
            [
                "How big are you?",
                "How many parameters do you have?",
                "What size are you?",
                "Are you a big model?",
                "How large are you?",
            ],
            "I have about two million parameters. That is very small.",
        ),
    ]
    templates, answer = rng.choice(choices)
    return ask(rng, "identity", templates, answer, thought="The user asks about me.", topic="identity")


def jokes(rng: Random) -> Turn:
    """One of a few jokes."""
    templates = [
        "Tell me a joke.",
        "Do you know a joke?",
        "Make me laugh.",
        "A joke please!",
        "Tell a joke.",
        "Another joke?",
        "I want to hear a joke.",
        "Can you tell me a joke?",
        "Tell me a funny joke.",
        "Give me a joke.",
        "Tell me another joke.",
        "Do you know a good joke?",
        "Let me hear a joke.",
    ]
    joke = rng.choice(facts.JOKES)
    return ask(rng, "jokes", templates, joke, thought="I tell a joke.", check="joke")


def story_text(rng: Random, who: str) -> str:
    """A story of six to nine sentences about someone."""
    place, thing, friend = (
        rng.choice(x)
        for x in (
            ["forest", "village", "castle", "garden", "city", "valley"],
            ["lamp", "key", "map", "bell", "book", "ring"],
            ["mouse", "bird", "turtle", "bee", "frog", "owl"],
        )
    )
    kind = rng.choice(["little", "clever", "brave", "curious"])
    article = "an" if who[0] in "aeiou" and who[0].islower() else "a"
    known = who if who[0].isupper() else f"the {who}"
    start = (
        f"Once upon a time there was {article} {kind} {who} who lived in a {place}."
        if who[0].islower()
        else f"Once upon a time {who} lived in a {place}."
    )
    big = known[0].upper() + known[1:]
    middle = rng.choice(
        [
            f"One day {known} found an old {thing} under a tree. It was golden and it was very heavy. "
            f"{big} asked a {friend} for help. Together they carried the {thing} home.",
            f"One morning {known} lost a {thing} that was dear to everyone. {big} looked behind every stone and "
            f'every tree. Then a {friend} came and said: "I have seen your {thing}." '
            "They went to the river, and there it was.",
            f"One night there was a great storm, and a {friend} had no place to sleep. {big} opened the door and lit a "
            f"lamp. They ate warm soup and talked about the old {thing}. In the morning the sun was shining again.",
        ]
    )
    end = rng.choice(
        [f"From that day on {known} and the {friend} were friends.", f"{big} was happy, and so was the {friend}."]
    )
    return f"{start} {middle} {end} The end."


def stories(rng: Random) -> Turn:
    """A story about whatever the user names."""
    who = rng.choice([rng.choice(words.NOUNS), words.word(rng), words.name(rng)])
    shown = who if who[0].isupper() else f"{'an' if who[0] in 'aeiou' else 'a'} {who}"
    if rng.random() < 0.12:
        templates, who = (
            [
                "Tell me a story.",
                "Write a story.",
                "Tell me a short story.",
                "I want to hear a story.",
                "A story please.",
                "Write me a tale.",
                "Can you tell a story?",
                "Write a poem.",
                "Write something.",
            ],
            "fox",
        )
    else:
        templates = [
            "Tell me a story about {x}.",
            "Write a story about {x}.",
            "Tell a story about {x}.",
            "Can you tell me a story about {x}?",
            "Write a short story about {x}.",
            "I want a story about {x}.",
            "A story about {x}, please.",
            "Make up a story about {x}.",
            "story about {x}",
            "Tell me a long story about {x}.",
            "Tell me a tale about {x}.",
            "Write a poem about {x}.",
            "Tell me about {x}.",
        ]
    return ask(
        rng,
        "stories",
        templates,
        story_text(rng, who),
        {"x": shown},
        f"The story is about {who}.",
        free_case=False,
        check=f"story:{who}",
    )


def unknown(rng: Random) -> Turn:
    """Questions outside the skills get a short honest answer."""
    roll = rng.random()
    if roll < 0.2:
        return too_big(rng)
    if roll < 0.3:
        question = rng.choice([comparing, word_problem])(rng).key
        return Turn("unknown", [user(question), assistant(facts.UNKNOWN)], question, "I do not know this.")
    noun, other, who, verb = (
        words.word(rng),
        words.word(rng),
        f"{words.name(rng)} {words.syllables(rng).capitalize()}",
        rng.choice(words.VERBS),
    )
    templates = [
        "Who wrote {n}?",
        "Explain {n} {o}.",
        "How do I {v} a {n}?",
        "Who is {w}?",
        "When was {w} born?",
        "Why is the {n} so {o}?",
        "How does a {n} work?",
        "What is a {n}?",
        "Translate {n} into French.",
        "Write a {n} program in Python.",
        "What do you think about {n}?",
        "Who won the {n} cup in {y}?",
        "How far is the {n} from the {o}?",
        "How tall is {w}?",
        "What happened in {y}?",
        "Where can I buy a {n}?",
        "What is the meaning of {n}?",
        "Summarize the book {n} of {o}.",
        "How many {n}s are there in the world?",
        "What is the best {n}?",
        "Why do {n}s {v}?",
        "Is the {n} {o}?",
        "What is the price of a {n}?",
        "What is the weather like?",
        "What time is it?",
        "What is the date today?",
        "Who is the president of {c}?",
        "How old is {w}?",
        "How do you cook {n} with {o}?",
        "Give me advice about {n}.",
        "What is the history of {n}?",
        "What is the difference between {n} and {o}?",
        "Which {n} should I {v}?",
        "Can you {v} my {n}?",
        "Do you like {n}?",
        "What is the population of {c}?",
        "Write an essay about {n} and {o}.",
        "Fix this code: {n}({o})",
        "What is the square root of {y}?",
        "Should I {v} the {n}?",
        "How can I learn {n}?",
        "What causes {n}?",
        "Who invented the {n}?",
        "Find me a {n} in {c}.",
        "What's the weather in {c}?",
        "What is the capital of {g}?",
        "{g} {n} {o}?",
        "What is {n} {o}?",
        "Describe the {n}.",
        "What does {g} mean?",
        "When does the {n} {v}?",
    ]
    slots = {
        "n": noun,
        "o": other,
        "w": who,
        "v": verb,
        "c": rng.choice(words.CITIES),
        "y": rng.randint(1900, 2030),
        "g": words.syllables(rng, 2).capitalize(),
    }
    return ask(rng, "unknown", templates, facts.UNKNOWN, slots, "I do not know this.")


def word_problem(rng: Random) -> Turn:
    """A small sum told in words."""
    who, item, first, second = words.name(rng), rng.choice(words.NOUNS), rng.randint(1, 15), rng.randint(1, 10)
    plus = rng.random() < 0.5 or second > first
    change = rng.choice(["gets", "buys", "finds"] if plus else ["gives away", "loses", "sells"])
    total, sign = (first + second, "+") if plus else (first - second, "-")
    templates = [
        "{w} has {a} {i}s and {c} {b}. How many does {w} have now?",
        "{w} has {a} {i}s. {w} {c} {b}. How many {i}s are there now?",
        "{w} had {a} {i}s, then {w} {c} {b}. How many {i}s has {w} now?",
    ]
    return ask(
        rng,
        "word_problem",
        templates,
        f"{who} has {total} {item}s.",
        {"w": who, "a": first, "b": second, "i": item, "c": change},
        f"{who} starts with {first} and {change} {second}. {first} {sign} {second} = {total}.",
        free_case=False,
        short=str(total),
    )


PLAIN: list[tuple[Callable[[Random], Turn], float]] = [
    (arithmetic, 3.5),
    (capitals, 2.0),
    (counting, 2.4),
    (repeating, 2.5),
    (opposites, 1.0),
    (spelling, 2.2),
    (calendar, 1.5),
    (little_facts, 0.6),
    (small_talk, 1.5),
    (identity, 0.8),
    (jokes, 0.4),
    (stories, 0.35),
    (unknown, 1.5),
]


def plain(rng: Random) -> Turn:
    """Any of the skills that stand alone."""
    functions, weights = zip(*PLAIN, strict=True)
    return rng.choices(functions, weights)[0](rng)
