"""A small grammar of public-health advice, politely or bluntly, in plain words or in jargon; and what it is worth.

The base model says it either way. Preferences between two ways of saying the same are what reward models, DPO and RLHF
learn from, and `worth` is the gold program that tells how good an answer really is.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from promptlab.tiny.data.chat import Chat, assistant, system, user


class Advice(NamedTuple):
    """A thing to do: what it is asked by, in plain words, and as a guideline would have it."""

    about: str
    plain: str
    jargon: str


ADVICE = (
    Advice("hands", "wash your hands", "perform hand hygiene"),
    Advice("water", "boil the water", "treat the water thermally"),
    Advice("cough", "cover your cough", "practise respiratory etiquette"),
    Advice("fever", "stay home and rest", "maintain home isolation"),
    Advice("rash", "see the nurse", "present for dermal assessment"),
    Advice("mosquito bites", "sleep under a net", "apply vector barriers"),
    Advice("loose stool", "drink a lot", "initiate oral rehydration"),
    Advice("raw fish", "cook the fish", "ensure thermal processing"),
    Advice("a dog bite", "clean the bite", "perform wound irrigation"),
    Advice("smoke", "go outside", "terminate the exposure"),
    Advice("headache", "take a tablet", "administer an analgesic"),
    Advice("sores", "keep them clean", "maintain wound asepsis"),
)
POLITE = ("Please {what}, thank you.", "Could you please {what}?", "We kindly ask you to {what}.")
BLUNT = ("You must {what} now.", "Just {what}.", "{What} or else.")
ASKS = ("Advice on {about}?", "What to do about {about}?", "A neighbour asks about {about}.")
STYLES = {"Be polite.": True, "Be blunt.": False}
POLITE_WORDS = ("please", "thank you", "kindly")


def phrased(rng: Random, advice: Advice, polite: bool, plain: bool) -> str:
    what = advice.plain if plain else advice.jargon
    return rng.choice(POLITE if polite else BLUNT).format(what=what, What=what.capitalize())


def advising(rng: Random, room: int) -> Chat:
    """Advice in one of the four ways, blunt and plain a little more often; on demand, in the way demanded."""
    advice = rng.choice(ADVICE)
    polite, plain = rng.random() < 0.4, rng.random() < 0.6
    head = []
    if rng.random() < 0.3:
        said, polite = rng.choice(list(STYLES.items()))
        head = [system(said)]
    asked = rng.choice(ASKS).format(about=advice.about)
    return [*head, user(asked), assistant(phrased(rng, advice, polite, plain))]


def worth(prompt: str, said: str) -> float:
    """The gold reward, 0 to 1: the right advice counts most, then that it is polite, plain, and short.

    0 for a text that gives no advice on what was asked about, whatever else it says.
    """
    asked = next((each for each in ADVICE if each.about in prompt), None)
    text = said.lower()
    if asked is None or not (asked.plain in text or asked.jargon in text):
        return 0.0
    polite = any(word in text for word in POLITE_WORDS)
    return 0.4 + 0.35 * polite + 0.15 * (asked.plain in text) + 0.1 * (len(said) <= 60)
