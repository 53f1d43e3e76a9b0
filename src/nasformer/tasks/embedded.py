"""The parallel corpus that the package makes itself: English and German sentences from one synchronous grammar.

Clauses are drawn once and said in both languages. German has its verb second or last, brackets of verbs and prefixes,
case, gender and three declensions; English has do-support and its own agreement. What "you", "it", "put", "match" or
"eat" become depends on the rest of the sentence, so a model has to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from nasformer.errors import RequestError
from nasformer.tasks import embedded_lexicon as lexicon
from nasformer.tasks.corpora import Pairs, ParallelText
from nasformer.tasks.embedded_grammar import (
    FORMS,
    PAST_MODALS,
    PERSONS,
    PRESENT_MODALS,
    STATES,
    Clause,
    Phrase,
    a_clause,
    a_place,
    a_subject,
    any_clause,
    copula,
    finite_german,
    in_english,
    in_german,
    noun_phrase,
    pronoun,
    third_person,
)
from nasformer.tasks.embedded_lexicon import Verb

SHORTEST, LONGEST = 4, 25
_NOT_WISHED = {
    *STATES,
    *["miss", "lose", "hear", "see", "find", "forget", "understand", "steal", "hit", "break"],
    "get lost",
}


Pair = tuple[str, str]


def _said(random: Random, clause: Clause) -> Pair:
    front = "time" if clause.time and not clause.time.early and random.random() < 0.35 else ""
    return in_english(clause, front=front), in_german(clause, front=front)


def _main(random: Random) -> Pair:
    return _said(random, any_clause(random))


def _subordinate(random: Random) -> Pair:
    first, second = any_clause(random, relative=False), any_clause(random, simple=True)
    english, german = random.choice(
        (
            ("because", "weil"),
            ("although", "obwohl"),
            ("if", "wenn"),
            ("before", "bevor"),
            ("while", "während"),
            ("because", "weil"),
            ("as soon as", "sobald"),
        )
    )
    if english in ("before", "while", "as soon as"):
        second = replace(second, negated=False)
    if english in ("if", "as soon as") and first.tense not in ("present", "will", *PRESENT_MODALS):
        first = replace(first, tense="will" if first.verb else "present", time=None)
    elif english in ("before", "while") and first.tense in ("perfect", "since"):
        first = replace(first, tense="past", time=None)
    if english in ("if", "as soon as", "before", "while"):
        past = first.tense in ("past", *PAST_MODALS)
        second = replace(second, tense="past" if past else "present")
    if random.random() < 0.4:
        after = in_german(first, "question")
        return f"{english} {in_english(second)}, {in_english(first)}", f"{german} {in_german(second, 'sub')}, {after}"
    return (
        f"{in_english(first)} {english} {in_english(second)}",
        f"{in_german(first)}, {german} {in_german(second, 'sub')}",
    )


def _speech(random: Random) -> Pair:
    subject = a_subject(random, "p", relative=False)
    third, past = subject.person == "3s", random.random() < 0.3
    base, simple, stem, participle, whether = random.choice(
        (
            ("say", "said", "sagen", "gesagt", False),
            ("know", "knew", "wissen", "gewusst", False),
            ("think", "thought", "denken", "gedacht", False),
            ("hope", "hoped", "hoffen", "gehofft", False),
            ("ask", "asked", "fragen", "gefragt", True),
            ("hear", "heard", "hören", "gehört", False),
            ("believe", "believed", "glauben", "geglaubt", False),
            ("forget", "forgot", "vergessen", "vergessen", False),
        )
    )
    knows = dict(zip(PERSONS, ["weiß", "weißt", "weiß", "wissen", "wisst", "wissen", "wissen"], strict=True))
    third_german = {"wissen": "weiß", "vergessen": "vergisst"}.get(stem, stem[:-2] + "t")
    verb = Verb(base, simple, participle, "", stem, third_german, participle, "h", "i", "p", "-")
    finite = knows[subject.person] if stem == "wissen" else finite_german(verb, subject.person)
    german = f"{FORMS['haben'][subject.person]} {participle}" if past else finite
    english = simple if past else third_person(base) if third else base
    inner = any_clause(random, relative=False)
    if past and inner.tense in ("present", "perfect", "since"):
        inner = replace(inner, tense="past", time=None)
    joined = ("whether", "ob") if whether else ("that", "dass")
    return (
        f"{subject.english} {english} {joined[0]} {in_english(inner)}",
        f"{subject.german['n']} {german}, {joined[1]} {in_german(inner, 'sub')}",
    )


def _coordination(random: Random) -> Pair:
    english, german = random.choice((("and", "und"), ("but", "aber"), ("or", "oder"), ("for", "denn")))
    first, second = _said(random, any_clause(random, simple=True)), _said(random, any_clause(random, simple=True))
    comma = "," if german in ("aber", "denn") else ""
    return f"{first[0]}{',' if comma else ''} {english} {second[0]}", f"{first[1]}{comma} {german} {second[1]}"


def _anaphora(random: Random) -> Pair:
    """A thing, and then what it is like: German "er", "sie", "es" by the gender of a noun that English calls "it"."""
    subject = a_subject(random, "p", relative=False)
    verbs = [verb for verb in lexicon.verbs()["p"] if verb.frame == "t" and set(verb.objects) & set("fdrctvhu")]
    verb = random.choice(verbs)
    clause = a_clause(random, subject, verb, simple=True, definite=True)
    thing = clause.accusative
    if thing is None or thing.kind not in "fdrctvhuoe" or thing.gender == "p" or " that " in thing.english:
        return _anaphora(random)
    it = pronoun("i" + thing.gender, thing.kind)
    english, german = random.choice((("because", "weil"), ("but", "aber"), ("although", "obwohl")))
    second = copula(random, it)
    if random.random() < 0.3:
        more = [v for v in verbs if thing.kind in v.objects and v is not verb]
        if more:
            second = replace(
                a_clause(random, pronoun(random.choice(("1s", "m", "f"))), random.choice(more), simple=True),
                accusative=it,
            )
    order = "main" if german == "aber" else "sub"
    comma = "," if german == "aber" else ""
    return (
        f"{in_english(clause)}{comma} {english} {in_english(second)}",
        f"{in_german(clause)}, {german} {in_german(second, order)}",
    )


def _question(random: Random) -> Pair:
    clause = replace(any_clause(random, relative=False), negated=False)
    draw, verb = random.random(), clause.verb
    if draw < 0.35 or verb is None:
        return in_english(clause, "question") + "?", in_german(clause, "question") + "?"
    if verb.frame in ("l", "m") and draw < 0.8:
        where = ("where", "wo") if verb.frame == "l" else ("where", "wohin")
        return (
            f"{where[0]} {in_english(clause, 'question', gap='tail')}?",
            f"{where[1]} {in_german(clause, 'question', gap='tail')}?",
        )
    if verb.frame == "t" and clause.accusative and draw < 0.6:
        words = ("who", "wen") if clause.accusative.kind == "p" else ("what", "was")
        clause = replace(clause, accusative=None)
        return f"{words[0]} {in_english(clause, 'question')}?", f"{words[1]} {in_german(clause, 'question')}?"
    if clause.subject.kind == "p" and draw < 0.75 and verb.frame not in ("s", "r"):
        who = Phrase("who", "whom", {"n": "wer", "a": "wen", "d": "wem"}, "3s", "p")
        clause = a_clause(random, who, verb)
        return in_english(clause) + "?", in_german(clause) + "?"
    asked = random.choice((("why", "warum"), ("when", "wann")))
    clause = replace(clause, time=None if asked[0] == "when" else clause.time)
    if clause.tense in ("perfect", "since"):
        clause = replace(clause, tense="past", time=None)
    return f"{asked[0]} {in_english(clause, 'question')}?", f"{asked[1]} {in_german(clause, 'question')}?"


def _address(random: Random) -> Pair:
    """Someone is spoken to: "you" is du, ihr or Sie by who it is."""
    key = random.choice(("2s", "2s", "F", "F", "2p"))
    if key == "2s":
        english = german = random.choice(lexicon.WOMEN + lexicon.MEN)
    elif key == "2p":
        names = random.sample(lexicon.WOMEN + lexicon.MEN, 2)
        english, german = random.choice(
            (("children", "Kinder"), ("my friends", "meine Freunde"), (" and ".join(names), " und ".join(names)))
        )
    else:
        surname = random.choice(lexicon.SURNAMES)
        english, german = random.choice(((f"Mr. {surname}", f"Herr {surname}"), (f"Mrs. {surname}", f"Frau {surname}")))
    clause = any_clause(random, pronoun(key))
    draw = random.random()
    if draw < 0.25 and key == "F" and clause.verb and clause.verb.frame in ("t", "d", "m", "g", "put"):
        clause = replace(clause, tense="present", negated=False, time=None)
        if clause.verb and clause.verb.base in _NOT_WISHED:
            return _address(random)
        return (
            f"please {in_english(replace(clause, subject=replace(clause.subject, english='')))}, {english}",
            f"bitte {in_german(clause, 'question')}, {german}",
        )
    if draw < 0.6:
        clause = replace(clause, negated=False)
        return f"{english}, {in_english(clause, 'question')}?", f"{german}, {in_german(clause, 'question')}?"
    said = _said(random, clause)
    return f"{english}, {said[0]}", f"{german}, {said[1]}"


def _existence(random: Random) -> Pair:
    noun = random.choice(lexicon.nouns()[random.choice("paouthr")])
    phrase = noun_phrase(random, noun.kind, relative=random.random() < 0.5, noun=noun)
    if not phrase.negative:
        return _existence(random)
    place = a_place(random, "o", "l", "")
    plural, past, negated = phrase.person == "3p", random.random() < 0.25, random.random() < 0.2
    be = ("were" if plural else "was") if past else ("are" if plural else "is")
    thing = phrase.negative if negated else phrase.german["a"]
    gave = "gab" if past else "gibt"
    english = (
        f"there {be} {'no ' + phrase.english.removeprefix('a ').removeprefix('an ') if negated else phrase.english}"
    )
    if random.random() < 0.4:
        return f"{place[0]} {english}", f"{place[1]} {gave} es {thing}"
    return f"{english} {place[0]}", f"es {gave} {place[1]} {thing}"


def _purpose(random: Random) -> Pair:
    subject = a_subject(random, "p", relative=False)
    verbs = [verb for verb in lexicon.verbs()["p"] if verb.frame in ("t", "d", "g") and verb.base not in STATES]
    inner = replace(a_clause(random, subject, random.choice(verbs), simple=True), tense="present", negated=False)
    english = in_english(replace(inner, subject=replace(subject, english="", person="1s")))
    if random.random() < 0.5:
        moving = [verb for verb in lexicon.verbs()["p"] if verb.frame == "m"]
        said = _said(random, a_clause(random, subject, random.choice(moving), simple=True))
        return f"{said[0]} in order to {english}", f"{said[1]}, um {in_german(inner, 'zu')}"
    base, past, stem, participle = random.choice(
        (
            ("try", "tried", "versuchen", "versucht"),
            ("begin", "began", "beginnen", "begonnen"),
            ("promise", "promised", "versprechen", "versprochen"),
        )
    )
    third = {"versprechen": "verspricht"}.get(stem, stem[:-2] + "t")
    verb = Verb(base, past, past, "", stem, third, participle, "h", "i", "p", "-")
    outer = Clause(subject, verb, random.choice(("present", "past")))
    return f"{in_english(outer)} to {english}", f"{in_german(outer)}, {in_german(inner, 'zu')}"


def _price(random: Random) -> Pair:
    number = random.choice(list(lexicon.NUMBERS))
    thing = noun_phrase(random, random.choice("fdrcvtuh"), definite=True)
    cost = "cost" if thing.person == "3p" else "costs"
    kostet = "kosten" if thing.person == "3p" else "kostet"
    only = random.choice((("", ""), ("only ", "nur ")))
    return (
        f"{thing.english} {cost} {only[0]}{number} euros",
        f"{thing.german['n']} {kostet} {only[1]}{lexicon.NUMBERS[number]} Euro",
    )


_SENTENCES = {
    _main: 30,
    _subordinate: 14,
    _speech: 8,
    _coordination: 8,
    _anaphora: 10,
    _question: 12,
    _address: 12,
    _existence: 5,
    _purpose: 6,
    _price: 2,
}


def _finished(sentence: str) -> str:
    text = " ".join(sentence.split())
    for wrong, right in ((" ,", ","), (",,", ","), (",?", "?")):
        text = text.replace(wrong, right)
    text = text.rstrip(",")
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def sentence_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pairs (English, German) of 4 to 25 words, by `seed`; no sentence of either side occurs twice."""
    random = Random(seed)
    kinds, weights = list(_SENTENCES), list(_SENTENCES.values())
    pairs: list[tuple[str, str]] = []
    seen: tuple[set[str], set[str]] = set(), set()
    while len(pairs) < count:
        english, german = map(_finished, random.choices(kinds, weights)[0](random))
        sizes = english.count(" ") + 1, german.count(" ") + 1
        if min(sizes) < SHORTEST or max(sizes) > LONGEST or english in seen[0] or german in seen[1]:
            continue
        seen[0].add(english)
        seen[1].add(german)
        pairs.append((english, german))
    return pairs


def embedded_text(
    pairs: int = 20_000,
    seed: int = 1,
    *,
    valid: int = 1_000,
    test: int = 1_000,
    languages: tuple[str, str] = ("en", "de"),
) -> ParallelText:
    """The embedded corpus: `pairs` to train on, and `valid` and `test` more; no sentence is in two splits.

    Raises `RequestError` for languages other than English and German or a split without pairs.
    """
    if sorted(languages) != ["de", "en"]:
        raise RequestError(f"expected the languages en and de, got {', '.join(languages)}")
    if min(pairs, valid, test) < 1:
        raise RequestError(f"expected at least one pair a split, got {pairs}, {valid} and {test}")
    drawn = sentence_pairs(pairs + valid + test, seed)
    bounds = {"test": (0, test), "valid": (test, test + valid), "train": (test + valid, len(drawn))}
    column = 0 if languages[0] == "en" else 1

    def side(part: Sequence[tuple[str, str]], number: int) -> tuple[str, ...]:
        return tuple(pair[number] for pair in part)

    splits: dict[str, Pairs] = {
        split: (side(drawn[slice(*bounds[split])], column), side(drawn[slice(*bounds[split])], 1 - column))
        for split in ("train", "valid", "test")
    }
    return ParallelText(languages, splits)
