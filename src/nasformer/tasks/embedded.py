"""The parallel corpus that the package makes itself: English and German sentences from one synchronous grammar.

Clauses are drawn once and said in both languages. German has its verb second or last, brackets of verbs and prefixes,
case, gender and three declensions; English has do-support and its own agreement. What "you", "it", "put", "match" or
"eat" become depends on the rest of the sentence, so a model has to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from nasformer.errors import RequestError
from nasformer.tasks import embedded_lexicon as lexicon
from nasformer.tasks.corpora import Pairs, ParallelText
from nasformer.tasks.embedded_lexicon import Noun, Time, Verb

PERSONS = ("1s", "2s", "3s", "1p", "2p", "3p", "F")  # F: the polite "Sie"
SHORTEST, LONGEST = 4, 25

_DEFINITE = {"n": ("der", "die", "das", "die"), "a": ("den", "die", "das", "die"), "d": ("dem", "der", "dem", "den")}
_THIS = {"n": ("er", "e", "es", "e"), "a": ("en", "e", "es", "e"), "d": ("em", "er", "em", "en")}
_A = {"n": ("", "e", "", "e"), "a": ("en", "e", "", "e"), "d": ("em", "er", "em", "en")}
_WEAK = {"n": ("e", "e", "e", "en"), "a": ("en", "e", "e", "en"), "d": ("en", "en", "en", "en")}
_MIXED = {"n": ("er", "e", "es", "en"), "a": ("en", "e", "es", "en"), "d": ("en", "en", "en", "en")}
_STRONG = {"n": ("er", "e", "es", "e"), "a": ("en", "e", "es", "e"), "d": ("em", "er", "em", "en")}

# person or gender: English subject, object, possessive; German nominative, accusative, dative, possessive
_PRONOUNS = {
    "1s": ("I", "me", "my", "ich", "mich", "mir", "mein"), "2s": ("you", "you", "your", "du", "dich", "dir", "dein"),
    "1p": ("we", "us", "our", "wir", "uns", "uns", "unser"), "2p": ("you", "you", "your", "ihr", "euch", "euch", "euer"),
    "F": ("you", "you", "your", "Sie", "Sie", "Ihnen", "Ihr"), "p": ("they", "them", "their", "sie", "sie", "ihnen", "ihr"),
    "m": ("he", "him", "his", "er", "ihn", "ihm", "sein"), "f": ("she", "her", "her", "sie", "sie", "ihr", "ihr"),
    "im": ("it", "it", "its", "er", "ihn", "ihm", "sein"), "if": ("it", "it", "its", "sie", "sie", "ihr", "ihr"),
    "in": ("it", "it", "its", "es", "es", "ihm", "sein"),
}  # fmt: skip
_REFLEXIVE = {"1s": "mich", "2s": "dich", "1p": "uns", "2p": "euch"}

_FORMS = {
    "haben": "habe hast hat haben habt haben haben", "sein": "bin bist ist sind seid sind sind",
    "war": "war warst war waren wart waren waren", "werden": "werde wirst wird werden werdet werden werden",
    "can": "kann kannst kann können könnt können können", "must": "muss musst muss müssen müsst müssen müssen",
    "want": "will willst will wollen wollt wollen wollen", "should": "soll sollst soll sollen sollt sollen sollen",
    "may": "darf darfst darf dürfen dürft dürfen dürfen", "mögen": "mag magst mag mögen mögt mögen mögen",
    "could": "konnte konntest konnte konnten konntet konnten konnten",
    "had to": "musste musstest musste mussten musstet mussten mussten",
    "wanted": "wollte wolltest wollte wollten wolltet wollten wollten",
}  # fmt: skip
_FORMS_OF = {name: dict(zip(PERSONS, forms.split(), strict=True)) for name, forms in _FORMS.items()}
_PRESENT_MODALS = ("can", "must", "want", "should", "may")
_PAST_MODALS = ("could", "had to", "wanted")
_PLACES = {"in": "in", "auf": "on", "unter": "under", "hinter": "behind", "neben": "next to", "vor": "in front of"}
_PARTICLES = ("up", "on", "away", "along", "back", "aloud")
_VOWEL_EXCEPTIONS = {"honest": "an", "hour": "an", "university": "a"}


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of both languages. `german` holds nominative, accusative and dative; `negative` the accusative with
    kein where one says so; `gender` is m, f, n or p (plural), `kind` as in the lexicon; `light` = a pronoun."""

    english: str
    english_object: str
    german: dict[str, str]
    person: str
    kind: str
    gender: str = ""
    light: bool = False
    negative: str = ""


@dataclass(frozen=True)
class Clause:
    """A clause before it is said. `tense` is present, past, perfect, since (English perfect, German present), will, like,
    or a modal verb; `objects` by case; `tail` is a place, direction or prepositional object (English, German)."""

    subject: Phrase
    verb: Verb | None
    tense: str
    negated: bool = False
    accusative: Phrase | None = None
    dative: Phrase | None = None
    nominative: Phrase | None = None  # the German subject of verbs like gefallen
    tail: tuple[str, str] | None = None
    predicate: tuple[str, str] | None = None
    time: Time | None = None
    manner: tuple[str, str] | None = None


# --- noun phrases


def _a(word: str) -> str:
    return _VOWEL_EXCEPTIONS.get(word.split()[0], "an" if word[0] in "aeiou" else "a")


def _inflected(stem: str, ending: str) -> str:
    if ending and stem == "hoch":
        stem = "hoh"
    elif ending and stem in ("teuer", "dunkel", "euer"):
        stem = stem[:-2] + stem[-1]
    return stem + (ending.removeprefix("e") if ending and stem.endswith("e") else ending)


def _pronoun(key: str, kind: str = "p") -> Phrase:
    subject, object_, _, nominative, accusative, dative, _ = _PRONOUNS[key]
    person = key if key in PERSONS else ("3p" if key == "p" else "3s")
    german = {"n": nominative, "a": accusative, "d": dative}
    return Phrase(subject, object_, german, person, kind, key[-1] if key[-1] in "mfnp" else "", light=True)


def _name(random: Random) -> Phrase:
    if random.random() < 0.25:
        woman, surname = random.random() < 0.5, random.choice(lexicon.SURNAMES)
        german = f"{'Frau' if woman else 'Herr'} {surname}", f"{'Frau' if woman else 'Herrn'} {surname}"
        english = f"{'Mrs.' if woman else 'Mr.'} {surname}"
        return Phrase(english, english, dict(zip("nad", (german[0], german[1], german[1]), strict=True)), "3s", "p",
                      "f" if woman else "m")  # fmt: skip
    names, gender = random.choice(((lexicon.WOMEN, "f"), (lexicon.MEN, "m")))
    name = random.choice(names)
    return Phrase(name, name, dict.fromkeys("nad", name), "3s", "p", gender)


def _noun_form(noun: Noun, case: str, plural: bool) -> str:
    if plural:
        return noun.german_plural + ("n" if case == "d" and noun.german_plural[-1] not in "ns" else "")
    return noun.german_plural if noun.weak and case != "n" else noun.german


def _article(kind: str, stem: str, case: str, column: int) -> tuple[str, str]:
    """The German article and the ending of the adjective after it."""
    if kind == "the":
        return _DEFINITE[case][column], _WEAK[case][column]
    if kind == "this":
        return _inflected(stem, _THIS[case][column]), _WEAK[case][column]
    if kind == "a":
        return _inflected(stem, _A[case][column]), _MIXED[case][column]
    return stem, _STRONG[case][column]


def _determiner(random: Random, own: str, plural: bool) -> tuple[str, str, str]:
    """(English, declension, German stem) of a determiner; `own` is the pronoun key of whoever may own the thing."""
    draw = random.random()
    if draw < 0.45:
        return "the", "the", ""
    if draw < 0.62:
        return ("", "", "") if plural else ("a", "a", "ein")
    if draw < 0.85:
        key = own if own and random.random() < 0.7 else random.choice(("1s", "1p", "m", "f", "p"))
        return _PRONOUNS[key][2], "a", _PRONOUNS[key][6]
    if plural and draw < 0.95:
        return (number := random.choice(list(lexicon.NUMBERS))), "", lexicon.NUMBERS[number]
    if draw < 0.98 or plural:
        return ("these" if plural else "this"), "this", "dies"
    return "every", "this", "jed"


def _noun_phrase(
    random: Random, kind: str, *, own: str = "", relative: bool = True, definite: bool = False, noun: Noun | None = None
) -> Phrase:
    noun = noun or random.choice(lexicon.nouns()[kind])
    plural = random.random() < 0.25 and kind not in "od"
    english_determiner, declension, stem = _determiner(random, own, plural)
    if definite and declension not in ("the",) and (english_determiner in ("", "a") or declension == ""):
        english_determiner, declension, stem = "the", "the", ""
    adjectives = [random.choice(lexicon.adjectives()[kind])] if random.random() < 0.3 else []
    column = 3 if plural else "mfn".index(noun.gender)
    german, negative = {}, ""
    for case in "nad":
        article, ending = _article(declension, stem, case, column)
        words = [_inflected(adjective.german, ending) for adjective in adjectives] + [_noun_form(noun, case, plural)]
        german[case] = " ".join([article, *words]).strip()
    if english_determiner in ("", "a"):
        article, ending = _article("a", "kein", "a", column)
        words = [_inflected(adjective.german, ending) for adjective in adjectives] + [_noun_form(noun, "a", plural)]
        negative = " ".join([article, *words])
    words = [adjective.english for adjective in adjectives] + [noun.english_plural if plural else noun.english]
    english_determiner = _a(words[0]) if english_determiner == "a" else english_determiner
    english = " ".join([english_determiner, *words]).strip()
    gender = "p" if plural else noun.gender
    phrase = Phrase(english, english, german, "3p" if plural else "3s", kind, gender, negative=negative)
    return _with_relative(random, phrase, column) if relative and random.random() < 0.1 else phrase


def _with_relative(random: Random, phrase: Phrase, column: int) -> Phrase:
    pronoun = {case: "denen" if (case, column) == ("d", 3) else _DEFINITE[case][column] for case in "nad"}
    who = "who" if phrase.kind == "p" else "that"
    usable = [verb for verb in lexicon.verbs().get(phrase.kind, ()) if verb.frame in ("i", "t", "d", "l", "m")]
    if usable and random.random() < 0.5:
        subject = replace(phrase, english=who, german=pronoun, negative="")
        clause = _clause(random, subject, random.choice(usable), simple=True)
        english, german = _english(clause), _german(clause, "sub")
    else:
        verbs = [verb for verb in lexicon.verbs()["p"] if verb.frame in ("t", "d") and phrase.kind in verb.objects]
        if not verbs:
            return phrase
        verb = random.choice(verbs)
        clause = _clause(random, _subject(random, "p", relative=False), verb, simple=True)
        clause = replace(clause, accusative=None, dative=None)
        english = f"{'whom' if phrase.kind == 'p' else 'that'} {_english(clause)}"
        german = f"{pronoun['a' if verb.frame == 't' else 'd']} {_german(clause, 'sub')}"
    said = {case: f"{words}, {german}," for case, words in phrase.german.items()}
    negative = f"{phrase.negative}, {german}," if phrase.negative else ""
    return replace(phrase, english=f"{phrase.english} {english}", english_object=f"{phrase.english_object} {english}",
                   german=said, negative=negative)  # fmt: skip


def _subject(random: Random, kind: str, *, relative: bool = True) -> Phrase:
    if kind == "p":
        draw = random.random()
        if draw < 0.35:
            return _pronoun(random.choice(("1s", "1p", "m", "f", "p")))
        if draw < 0.55:
            return _name(random)
    return _noun_phrase(random, kind, relative=relative)


def _own(phrase: Phrase) -> str:
    if phrase.person in ("3s", "3p"):
        return phrase.gender if phrase.kind == "p" and phrase.gender in ("m", "f", "p") else ""
    return phrase.person


# --- drawing clauses


def _clause(
    random: Random, subject: Phrase, verb: Verb, *, simple: bool = False, tense: str = "", definite: bool = False
) -> Clause:
    tense = tense or _tense(random, subject, verb, simple)
    own, frame = _own(subject), verb.frame
    negated = random.random() < 0.15
    accusative = dative = nominative = tail = None
    if frame in ("t", "g", "put"):
        accusative = _object(random, verb.objects, own, simple, definite or frame != "t", subject)
    if frame == "g":
        dative = _object(random, "p", own, True, True, subject)
        accusative = _noun_phrase(random, random.choice(verb.objects), own=own, relative=False)
    elif frame == "d":
        dative = _object(random, verb.objects, own, simple, True, subject)
    elif frame == "s":
        nominative = _noun_phrase(random, random.choice(verb.objects), own=own, relative=not simple, definite=True)
    elif frame in ("m", "l", "put"):
        tail = _place(random, "o" if frame == "m" else ("u" if frame == "put" else random.choice(verb.objects)), frame, own)
    elif "," in frame:
        english, german, case = frame.split(",")
        thing = _object(random, verb.objects, own, True, False, subject)
        if thing.light and thing.kind != "p":
            thing = _noun_phrase(random, thing.kind, own=own, relative=False)
        tail = f"{english} {thing.english_object}", _contracted(f"{german} {thing.german[case]}")
    time = None
    if tense != "since" and not simple and random.random() < 0.45:
        kind = {"present": "p", "past": "a", "could": "a", "had to": "a", "wanted": "a"}.get(tense, "f")
        choices = [time for time in lexicon.times().get(kind, ()) if not (negated and time.early)]
        time = random.choice(choices) if tense not in ("perfect", "like") else None
    if tense == "perfect":
        time, negated = Time("already", "schon", "", True), False
    if tense == "since":
        number = random.choice(list(lexicon.NUMBERS))
        unit = random.choice((("years", "Jahren"), ("months", "Monaten"), ("weeks", "Wochen"), ("days", "Tagen")))
        time, negated = Time(f"for {number} {unit[0]}", f"seit {lexicon.NUMBERS[number]} {unit[1]}", "", False), False
    manner = None
    if frame in ("i", "t") and subject.kind == "p" and not simple and random.random() < 0.12 and tense != "like":
        manner = random.choice(lexicon.manners())
        if manner[0] == "together" and subject.person in ("1s", "2s", "3s"):
            manner = ("alone", "allein")
    if frame == "i" and subject.kind in "pa" and not tail and not simple and random.random() < 0.4 and verb.prefix == "":
        tail = _place(random, "o", "l", own)
    return Clause(subject, verb, tense, negated, accusative, dative, nominative, tail, None, time, manner)


def _tense(random: Random, subject: Phrase, verb: Verb, simple: bool) -> str:
    if simple:
        return random.choice(("present", "past"))
    if subject.kind not in "pa" or verb.frame == "s" or verb.base in ("know", "like", "need", "belong", "love"):
        return random.choice(("present", "present", "past"))
    if verb.base in ("live", "work", "wait", "stay", "sit") and random.random() < 0.25:
        return "since"
    draw = random.random()
    if draw < 0.3:
        return "present"
    if draw < 0.55:
        return "past"
    if draw < 0.62:
        return "perfect"
    if draw < 0.72:
        return "will"
    if draw < 0.77 and subject.kind == "p" and verb.frame in ("i", "t", "d", "m") and verb.base not in (
        "get lost", "die", "forget", "lose", "fall asleep", "understand"):  # fmt: skip
        return "like"
    return random.choice(_PAST_MODALS if draw > 0.92 else _PRESENT_MODALS)


def _object(random: Random, kinds: str, own: str, simple: bool, definite: bool, subject: Phrase) -> Phrase:
    kind = random.choice(kinds)
    if kind == "p":
        draw = random.random()
        if draw < 0.3:
            choices = [key for key in ("1s", "1p", "m", "f", "p") if key != own and not (own in "mf" and key in "mf")]
            choices = [key for key in choices if key[0] != subject.person[0]] or ["f"]
            return _pronoun(random.choice(choices))
        if draw < 0.5:
            return _name(random)
    return _noun_phrase(random, kind, own=own, relative=not simple, definite=definite)


def _place(random: Random, kind: str, frame: str, own: str) -> tuple[str, str]:
    case = "a" if frame in ("m", "put") else "d"
    draw = random.random()
    if kind == "o" and draw < 0.2:
        city = random.choice(list(lexicon.CITIES))
        return (f"to {city}", f"nach {lexicon.CITIES[city]}") if case == "a" else (f"in {city}", f"in {lexicon.CITIES[city]}")
    if kind == "o" and draw < 0.3:
        return ("home", "nach Hause") if case == "a" else ("at home", "zu Hause")
    noun = random.choice(lexicon.nouns()[kind])
    phrase = _noun_phrase(random, kind, own=own, relative=False, definite=True, noun=noun)
    if kind == "o":
        german = noun.preposition if draw < 0.75 else random.choice(("hinter", "neben", "vor"))
        english = {"in": "in", "auf": "on", "an": "at"}.get(german) or _PLACES[german]
        if case == "a" and german in ("in", "auf", "an"):
            english = "to"
            german, case = ("zu", "d") if german == "an" else (german, case)
        elif noun.german == "Markt" and german == "auf":
            english = "at"
    else:
        german = random.choice(("auf", "auf", "neben", "unter", "hinter"))
        if noun.german in ("Schrank", "Kiste"):
            german = "in"
        english = "into" if case == "a" and german == "in" else _PLACES[german]
    return f"{english} {phrase.english}", _contracted(f"{german} {phrase.german[case]}")


def _contracted(words: str) -> str:
    for long, short in (("in dem ", "im "), ("in das ", "ins "), ("an dem ", "am "), ("an das ", "ans "), ("von dem ", "vom "),
                        ("zu dem ", "zum "), ("zu der ", "zur ")):  # fmt: skip
        if words.startswith(long):
            return short + words[len(long) :]
    return words


def _predicate(random: Random, subject: Phrase, kind: str) -> tuple[str, str]:
    adjective = random.choice(lexicon.adjectives()[kind])
    draw = random.random()
    if draw > 0.35:
        degree = random.choice((("", ""), ("", ""), ("very ", "sehr "), ("too ", "zu ")))
        return degree[0] + adjective.english, degree[1] + adjective.german
    other = _name(random) if kind == "p" and draw < 0.15 else _noun_phrase(random, kind, own=_own(subject), relative=False,
                                                                          definite=True)  # fmt: skip
    if draw < 0.1:
        return f"as {adjective.english} as {other.english}", f"so {adjective.german} wie {other.german['n']}"
    more = adjective.english_more or f"more {adjective.english}"
    return f"{more} than {other.english}", f"{adjective.german_more} als {other.german['n']}"


def _copula(random: Random, subject: Phrase) -> Clause:
    return Clause(subject, None, random.choice(("present", "present", "past")), random.random() < 0.12,
                  predicate=_predicate(random, subject, subject.kind))  # fmt: skip


def _any_clause(random: Random, subject: Phrase | None = None, *, simple: bool = False, relative: bool = True) -> Clause:
    subject = subject or _subject(random, random.choice("pppppppaarctvhe"), relative=relative and not simple)
    verbs = lexicon.verbs().get(subject.kind, ())
    if not verbs or random.random() < 0.12:
        return _copula(random, subject)
    return _clause(random, subject, random.choice(verbs), simple=simple)


# --- saying clauses


def _third(word: str) -> str:
    first, *rest = word.split(" ")
    if first.endswith(("s", "sh", "ch", "x", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return " ".join([first, *rest])


def _english_verb(clause: Clause) -> tuple[str, str, str]:
    """(auxiliary, what follows it, the finite form that stands alone or ""): do-support has a form that stands alone."""
    person, tense = clause.subject.person, clause.tense
    third = person == "3s"
    if clause.verb is None:
        past = "was" if person in ("1s", "3s") else "were"
        present = {"1s": "am", "3s": "is"}.get(person, "are")
        return (past if tense == "past" else present), "", ""
    base = clause.verb.base
    if tense in ("present", "past"):
        finite = clause.verb.past if tense == "past" else (_third(base) if third else base)
        return ("did" if tense == "past" else "does" if third else "do"), base, finite
    if tense in ("perfect", "since"):
        return ("has" if third else "have"), clause.verb.participle, ""
    if tense in ("want", "like"):
        return ("does" if third else "do"), f"{tense} to {base}", f"{tense}{'s' if third else ''} to {base}"
    if tense == "wanted":
        return "did", f"want to {base}", f"wanted to {base}"
    if tense == "had to" or (tense == "must" and clause.negated):
        do = "did" if tense == "had to" else "does" if third else "do"
        return do, f"have to {base}", f"had to {base}"
    return ("must" if tense == "may" and clause.negated else tense), base, ""


def _english(clause: Clause, order: str = "main", front: str = "", gap: str = "") -> str:
    """English words of a clause; `order` main or question, `front` what is said before it, `gap` what is asked for."""
    auxiliary, rest, finite = _english_verb(clause)
    early = clause.time.english if clause.time and clause.time.early else ""
    negation = "not" if clause.negated else ""
    subject = clause.subject.english
    if order == "question":
        words = [auxiliary, subject, negation, early, rest]
    elif finite and not clause.negated:
        words = [subject, early, finite]
    else:
        words = [subject, auxiliary, negation, early, rest]
    objects = [phrase for phrase in (clause.dative, clause.accusative, clause.nominative) if phrase]
    said = [phrase.english_object for phrase in objects]
    if said and objects[0].light and words[-1].endswith(_PARTICLES) and clause.verb and clause.verb.frame == "t":
        words[-1], _, particle = words[-1].rpartition(" ")
        said.append(particle)
    words += said
    words.append(clause.predicate[0] if clause.predicate else "")
    manner = clause.manner[0] if clause.manner else ""
    tail = clause.tail[0] if clause.tail and gap != "tail" else ""
    words += [tail, manner] if clause.verb and clause.verb.frame not in ("i", "t") else [manner, tail]
    if clause.time and not early and front != "time":
        words.append(clause.time.english)
    lead = clause.time.english if front == "time" and clause.time else ""
    return " ".join(word for word in [lead, *words] if word).replace("can not", "cannot")


def _finite(verb: Verb, person: str) -> str:
    if verb.stem == "mögen":
        return _FORMS_OF["mögen"][person]
    root = verb.stem[:-2] if verb.stem.endswith("en") else verb.stem[:-1]
    if person == "1s":
        return root[:-2] + "le" if root.endswith("el") else root + "e"
    if person == "2s":
        return verb.third[:-1] + ("t" if verb.third[-2] in "sßzx" else "st")
    if person == "3s":
        return verb.third
    if person == "2p":
        return root + ("et" if root.endswith(("d", "t", "chn")) else "t")
    return verb.stem


def _german_verb(clause: Clause) -> tuple[str, str, str]:
    """(finite verb, the end of a main clause, the end of a subordinate clause without its finite verb)."""
    person = (clause.nominative or clause.subject).person
    tense, verb = clause.tense, clause.verb
    if verb is None:
        return _FORMS_OF["war" if tense == "past" else "sein"][person], "", ""
    if tense in ("present", "since", "like"):
        return _finite(verb, person), verb.prefix, verb.prefix + "+" if verb.prefix else ""
    if tense in ("past", "perfect"):
        auxiliary = _FORMS_OF["haben" if verb.auxiliary == "h" else "sein"][person]
        return auxiliary, verb.german_participle, verb.german_participle
    infinitive = verb.prefix + verb.stem
    return _FORMS_OF["werden" if tense == "will" else tense][person], infinitive, infinitive


def _german(clause: Clause, order: str = "main", front: str = "", gap: str = "") -> str:
    """German words of a clause; `order` main, sub (verb last), question (verb first) or zu (infinitive)."""
    finite, end, last = _german_verb(clause)
    subject, dative = clause.nominative or clause.subject, clause.dative
    if clause.nominative:
        dative = clause.subject
    accusative, verb = clause.accusative, clause.verb
    said_subject = subject.german["n"]
    light = []
    if verb and verb.frame == "r":
        light.append(_REFLEXIVE.get(clause.subject.person, "sich"))
    light += [accusative.german["a"]] if accusative and accusative.light else []
    light += [dative.german["d"]] if dative and dative.light else []
    fields = [] if front == "time" or not clause.time else [clause.time.german]
    fields += [dative.german["d"]] if dative and not dative.light else []
    tail = clause.tail[1] if clause.tail and gap != "tail" else ""
    heavy = accusative if accusative and not accusative.light else None
    negation = ["nicht"] if clause.negated else []
    if clause.tense == "like":
        negation.append("gern")
        late = bool(heavy and heavy.negative)
        fields += [*negation, heavy.german["a"]] if heavy and late else [*([heavy.german["a"]] if heavy else []), *negation]
    elif heavy and heavy.negative and clause.negated:
        fields.append(heavy.negative)
    else:
        fields += [heavy.german["a"] if heavy else "", *negation]
    fields += [clause.manner[1] if clause.manner else "", tail, clause.predicate[1] if clause.predicate else ""]
    middle = [*light, *fields]
    if order == "zu" and verb:
        words = [*middle, f"{verb.prefix}zu{verb.stem}" if verb.prefix else f"zu {verb.stem}"]
    elif order == "sub":
        first = [*light, said_subject] if clause.nominative and light else [said_subject, *light]
        words = [*first, *fields, last + finite if last.endswith("+") else f"{last} {finite}"]
    elif order == "question":
        words = [finite, said_subject, *middle, end]
    elif front == "time" and clause.time:
        words = [clause.time.german, finite, said_subject, *middle, end]
    else:
        words = [said_subject, finite, *middle, end]
    return " ".join(word for word in words if word).replace("+", "")


# --- sentences

Pair = tuple[str, str]


def _said(random: Random, clause: Clause) -> Pair:
    front = "time" if clause.time and not clause.time.early and random.random() < 0.35 else ""
    return _english(clause, front=front), _german(clause, front=front)


def _main(random: Random) -> Pair:
    return _said(random, _any_clause(random))


def _subordinate(random: Random) -> Pair:
    first, second = _any_clause(random, relative=False), _any_clause(random, simple=True)
    english, german = random.choice((("because", "weil"), ("although", "obwohl"), ("if", "wenn"), ("before", "bevor"),
                                     ("while", "während"), ("because", "weil"), ("as soon as", "sobald")))  # fmt: skip
    if english in ("before", "while", "as soon as"):
        second = replace(second, negated=False)
    if english in ("if", "as soon as", "before"):
        second = replace(second, tense="present")
    elif english == "while":
        second = replace(second, tense="past" if first.tense in ("past", *_PAST_MODALS) else "present")
    if random.random() < 0.4:
        after = _german(first, "question")
        return f"{english} {_english(second)}, {_english(first)}", f"{german} {_german(second, 'sub')}, {after}"
    return f"{_english(first)} {english} {_english(second)}", f"{_german(first)}, {german} {_german(second, 'sub')}"


def _speech(random: Random) -> Pair:
    subject = _subject(random, "p", relative=False)
    third, past = subject.person == "3s", random.random() < 0.3
    base, simple, stem, participle, whether = random.choice((
        ("say", "said", "sagen", "gesagt", False), ("know", "knew", "wissen", "gewusst", False),
        ("think", "thought", "denken", "gedacht", False), ("hope", "hoped", "hoffen", "gehofft", False),
        ("ask", "asked", "fragen", "gefragt", True), ("hear", "heard", "hören", "gehört", False),
        ("believe", "believed", "glauben", "geglaubt", False), ("forget", "forgot", "vergessen", "vergessen", False)))  # fmt: skip
    knows = dict(zip(PERSONS, "weiß weißt weiß wissen wisst wissen wissen".split(), strict=True))
    third_german = {"wissen": "weiß", "vergessen": "vergisst"}.get(stem, stem[:-2] + "t")
    verb = Verb(base, simple, participle, "", stem, third_german, participle, "h", "i", "p", "-")
    finite = knows[subject.person] if stem == "wissen" else _finite(verb, subject.person)
    german = f"{_FORMS_OF['haben'][subject.person]} {participle}" if past else finite
    english = simple if past else _third(base) if third else base
    inner = _any_clause(random, relative=False)
    joined = ("whether", "ob") if whether else ("that", "dass")
    return (f"{subject.english} {english} {joined[0]} {_english(inner)}",
            f"{subject.german['n']} {german}, {joined[1]} {_german(inner, 'sub')}")  # fmt: skip


def _coordination(random: Random) -> Pair:
    english, german = random.choice((("and", "und"), ("but", "aber"), ("or", "oder"), ("for", "denn")))
    first, second = _said(random, _any_clause(random, simple=True)), _said(random, _any_clause(random, simple=True))
    comma = "," if german in ("aber", "denn") else ""
    return f"{first[0]}{',' if comma else ''} {english} {second[0]}", f"{first[1]}{comma} {german} {second[1]}"


def _anaphora(random: Random) -> Pair:
    """A thing, and then what it is like: German "er", "sie", "es" by the gender of a noun that English calls "it"."""
    subject = _subject(random, "p", relative=False)
    verbs = [verb for verb in lexicon.verbs()["p"] if verb.frame == "t" and set(verb.objects) & set("fdrctvhu")]
    verb = random.choice(verbs)
    clause = _clause(random, subject, verb, simple=True, definite=True)
    thing = clause.accusative
    if thing is None or thing.kind not in "fdrctvhuoe" or thing.gender == "p" or " that " in thing.english:
        return _anaphora(random)
    it = _pronoun("i" + thing.gender, thing.kind)
    english, german = random.choice((("because", "weil"), ("but", "aber"), ("although", "obwohl")))
    second = _copula(random, it)
    if random.random() < 0.3:
        more = [v for v in verbs if thing.kind in v.objects and v is not verb]
        if more:
            second = replace(_clause(random, _pronoun(random.choice(("1s", "m", "f"))), random.choice(more), simple=True),
                             accusative=it)  # fmt: skip
    order = "main" if german == "aber" else "sub"
    comma = "," if german == "aber" else ""
    return (f"{_english(clause)}{comma} {english} {_english(second)}",
            f"{_german(clause)}, {german} {_german(second, order)}")  # fmt: skip


def _question(random: Random) -> Pair:
    clause = replace(_any_clause(random, relative=False), negated=False)
    draw, verb = random.random(), clause.verb
    if draw < 0.35 or verb is None:
        return _english(clause, "question") + "?", _german(clause, "question") + "?"
    if verb.frame in ("l", "m") and draw < 0.8:
        where = ("where", "wo") if verb.frame == "l" else ("where", "wohin")
        return (f"{where[0]} {_english(clause, 'question', gap='tail')}?",
                f"{where[1]} {_german(clause, 'question', gap='tail')}?")  # fmt: skip
    if verb.frame == "t" and clause.accusative and draw < 0.6:
        words = ("who", "wen") if clause.accusative.kind == "p" else ("what", "was")
        clause = replace(clause, accusative=None)
        return f"{words[0]} {_english(clause, 'question')}?", f"{words[1]} {_german(clause, 'question')}?"
    if clause.subject.kind == "p" and draw < 0.75 and verb.frame not in ("s", "r"):
        who = Phrase("who", "whom", {"n": "wer", "a": "wen", "d": "wem"}, "3s", "p")
        clause = _clause(random, who, verb)
        return _english(clause) + "?", _german(clause) + "?"
    asked = random.choice((("why", "warum"), ("when", "wann")))
    clause = replace(clause, time=None if asked[0] == "when" else clause.time)
    if clause.tense in ("perfect", "since"):
        clause = replace(clause, tense="past", time=None)
    return f"{asked[0]} {_english(clause, 'question')}?", f"{asked[1]} {_german(clause, 'question')}?"


def _address(random: Random) -> Pair:
    """Someone is spoken to: "you" is du, ihr or Sie by who it is."""
    key = random.choice(("2s", "2s", "F", "F", "2p"))
    if key == "2s":
        english = german = random.choice(lexicon.WOMEN + lexicon.MEN)
    elif key == "2p":
        names = random.sample(lexicon.WOMEN + lexicon.MEN, 2)
        english, german = random.choice((("children", "Kinder"), ("my friends", "meine Freunde"),
                                         (" and ".join(names), " und ".join(names))))  # fmt: skip
    else:
        surname = random.choice(lexicon.SURNAMES)
        english, german = random.choice(((f"Mr. {surname}", f"Herr {surname}"), (f"Mrs. {surname}", f"Frau {surname}")))
    clause = _any_clause(random, _pronoun(key))
    draw = random.random()
    if draw < 0.25 and key == "F" and clause.verb and clause.verb.frame in ("t", "d", "m", "g", "put"):
        clause = replace(clause, tense="present", negated=False, time=None)
        return (f"please {_english(replace(clause, subject=replace(clause.subject, english='')))}, {english}",
                f"bitte {_german(clause, 'question')}, {german}")  # fmt: skip
    if draw < 0.6:
        clause = replace(clause, negated=False)
        return f"{english}, {_english(clause, 'question')}?", f"{german}, {_german(clause, 'question')}?"
    said = _said(random, clause)
    return f"{english}, {said[0]}", f"{german}, {said[1]}"


def _existence(random: Random) -> Pair:
    noun = random.choice(lexicon.nouns()[random.choice("paouthr")])
    phrase = _noun_phrase(random, noun.kind, relative=random.random() < 0.5, noun=noun)
    if not phrase.negative:
        return _existence(random)
    place = _place(random, "o", "l", "")
    plural, past, negated = phrase.person == "3p", random.random() < 0.25, random.random() < 0.2
    be = ("were" if plural else "was") if past else ("are" if plural else "is")
    thing = phrase.negative if negated else phrase.german["a"]
    gave = "gab" if past else "gibt"
    english = f"there {be} {'no ' + phrase.english.removeprefix('a ').removeprefix('an ') if negated else phrase.english}"
    if random.random() < 0.4:
        return f"{place[0]} {english}", f"{place[1]} {gave} es {thing}"
    return f"{english} {place[0]}", f"es {gave} {place[1]} {thing}"


def _purpose(random: Random) -> Pair:
    subject = _subject(random, "p", relative=False)
    verbs = [verb for verb in lexicon.verbs()["p"] if verb.frame in ("t", "d", "g") and verb.base not in ("know", "need", "like")]
    inner = replace(_clause(random, subject, random.choice(verbs), simple=True), tense="present", negated=False)
    english = _english(replace(inner, subject=replace(subject, english="", person="1s")))
    if random.random() < 0.5:
        moving = [verb for verb in lexicon.verbs()["p"] if verb.frame == "m"]
        said = _said(random, _clause(random, subject, random.choice(moving), simple=True))
        return f"{said[0]} in order to {english}", f"{said[1]}, um {_german(inner, 'zu')}"
    base, past, stem, participle = random.choice((("try", "tried", "versuchen", "versucht"), ("begin", "began", "beginnen", "begonnen"),
                                                  ("promise", "promised", "versprechen", "versprochen")))  # fmt: skip
    third = {"versprechen": "verspricht"}.get(stem, stem[:-2] + "t")
    verb = Verb(base, past, past, "", stem, third, participle, "h", "i", "p", "-")
    outer = Clause(subject, verb, random.choice(("present", "past")))
    return f"{_english(outer)} to {english}", f"{_german(outer)}, {_german(inner, 'zu')}"


def _price(random: Random) -> Pair:
    number = random.choice(list(lexicon.NUMBERS))
    thing = _noun_phrase(random, random.choice("fdrcvtuh"), definite=True)
    cost = "cost" if thing.person == "3p" else "costs"
    kostet = "kosten" if thing.person == "3p" else "kostet"
    only = random.choice((("", ""), ("only ", "nur ")))
    return (f"{thing.english} {cost} {only[0]}{number} euros",
            f"{thing.german['n']} {kostet} {only[1]}{lexicon.NUMBERS[number]} Euro")  # fmt: skip


_SENTENCES = {_main: 30, _subordinate: 14, _speech: 8, _coordination: 8, _anaphora: 10, _question: 12, _address: 12,
              _existence: 5, _purpose: 6, _price: 2}  # fmt: skip


def _finished(sentence: str) -> str:
    text = " ".join(sentence.split())
    for wrong, right in ((" ,", ","), (",,", ","), (",?", "?")):
        text = text.replace(wrong, right)
    text = text.rstrip(",")
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def sentence_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pairs (English, German) of 4 to 25 words; no sentence of either side occurs twice. Depends on seed only."""
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
