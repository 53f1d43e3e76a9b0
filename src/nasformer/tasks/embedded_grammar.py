"""The grammar of the embedded corpus: phrases and clauses, drawn once and said in English and in German."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from nasformer.tasks import embedded_lexicon as lexicon
from nasformer.tasks.embedded_lexicon import Noun, Time, Verb

PERSONS = ("1s", "2s", "3s", "1p", "2p", "3p", "F")  # F: the polite "Sie"

_DEFINITE = {"n": ("der", "die", "das", "die"), "a": ("den", "die", "das", "die"), "d": ("dem", "der", "dem", "den")}
_THIS = {"n": ("er", "e", "es", "e"), "a": ("en", "e", "es", "e"), "d": ("em", "er", "em", "en")}
_A = {"n": ("", "e", "", "e"), "a": ("en", "e", "", "e"), "d": ("em", "er", "em", "en")}
_WEAK = {"n": ("e", "e", "e", "en"), "a": ("en", "e", "e", "en"), "d": ("en", "en", "en", "en")}
_MIXED = {"n": ("er", "e", "es", "en"), "a": ("en", "e", "es", "en"), "d": ("en", "en", "en", "en")}
_STRONG = {"n": ("er", "e", "es", "e"), "a": ("en", "e", "es", "e"), "d": ("em", "er", "em", "en")}

# person or gender: English subject, object, possessive; German nominative, accusative, dative, possessive
_PRONOUN_TABLE = """
1s I me my ich mich mir mein; 2s you you your du dich dir dein;
1p we us our wir uns uns unser; 2p you you your ihr euch euch euer;
F you you your Sie Sie Ihnen Ihr; p they them their sie sie ihnen ihr;
m he him his er ihn ihm sein; f she her her sie sie ihr ihr;
im it it its er ihn ihm sein; if it it its sie sie ihr ihr;
in it it its es es ihm sein
"""
PRONOUNS = {key: tuple(forms) for key, *forms in map(str.split, _PRONOUN_TABLE.split(";"))}
_REFLEXIVE = {"1s": "mich", "2s": "dich", "1p": "uns", "2p": "euch"}

_FORM_TABLE = {
    "haben": "habe hast hat haben habt haben haben",
    "sein": "bin bist ist sind seid sind sind",
    "war": "war warst war waren wart waren waren",
    "werden": "werde wirst wird werden werdet werden werden",
    "can": "kann kannst kann können könnt können können",
    "must": "muss musst muss müssen müsst müssen müssen",
    "want": "will willst will wollen wollt wollen wollen",
    "should": "soll sollst soll sollen sollt sollen sollen",
    "may": "darf darfst darf dürfen dürft dürfen dürfen",
    "mögen": "mag magst mag mögen mögt mögen mögen",
    "could": "konnte konntest konnte konnten konntet konnten konnten",
    "had to": "musste musstest musste mussten musstet mussten mussten",
    "wanted": "wollte wolltest wollte wollten wolltet wollten wollten",
}
FORMS = {name: dict(zip(PERSONS, forms.split(), strict=True)) for name, forms in _FORM_TABLE.items()}
PRESENT_MODALS = ("can", "must", "want", "should", "may")
PAST_MODALS = ("could", "had to", "wanted")
_PLACES = {"in": "in", "auf": "on", "unter": "under", "hinter": "behind", "neben": "next to", "vor": "in front of"}
_PARTICLES = ("up", "on", "away", "along", "back", "aloud")
STATES = ("know", "like", "need", "belong to", "love")
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
    """A clause before it is said. `tense` is present, past, perfect, since (English perfect, German present), will,
    like, or a modal verb; `objects` by case; `tail` is a place, direction or prepositional object (English, German)."""

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


def pronoun(key: str, kind: str = "p") -> Phrase:
    """A personal pronoun by its key in `PRONOUNS` (im, if, in: what English calls "it")."""
    subject, object_, _, nominative, accusative, dative, _ = PRONOUNS[key]
    person = key if key in PERSONS else ("3p" if key == "p" else "3s")
    german = {"n": nominative, "a": accusative, "d": dative}
    return Phrase(subject, object_, german, person, kind, key[-1] if key[-1] in "mfnp" else "", light=True)


def _name(random: Random) -> Phrase:
    if random.random() < 0.25:
        woman, surname = random.random() < 0.5, random.choice(lexicon.SURNAMES)
        german = f"{'Frau' if woman else 'Herr'} {surname}", f"{'Frau' if woman else 'Herrn'} {surname}"
        english = f"{'Mrs.' if woman else 'Mr.'} {surname}"
        return Phrase(
            english,
            english,
            dict(zip("nad", (german[0], german[1], german[1]), strict=True)),
            "3s",
            "p",
            "f" if woman else "m",
        )
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
        return PRONOUNS[key][2], "a", PRONOUNS[key][6]
    if plural and draw < 0.95:
        return (number := random.choice(list(lexicon.NUMBERS))), "", lexicon.NUMBERS[number]
    if draw < 0.98 or plural:
        return ("these" if plural else "this"), "this", "dies"
    return "every", "this", "jed"


def noun_phrase(
    random: Random, kind: str, *, own: str = "", relative: bool = True, definite: bool = False, noun: Noun | None = None
) -> Phrase:
    """A noun of a kind with determiner, perhaps an adjective and a relative clause; `own` is who may possess it."""
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
    forms = {case: "denen" if (case, column) == ("d", 3) else _DEFINITE[case][column] for case in "nad"}
    who = "who" if phrase.kind == "p" else "that"
    usable = [verb for verb in lexicon.verbs().get(phrase.kind, ()) if verb.frame in ("i", "t", "d", "l", "m")]
    if usable and random.random() < 0.5:
        subject = replace(phrase, english=who, german=forms, negative="")
        clause = a_clause(random, subject, random.choice(usable), simple=True)
        english, german = in_english(clause), in_german(clause, "sub")
    else:
        verbs = [verb for verb in lexicon.verbs()["p"] if verb.frame in ("t", "d") and phrase.kind in verb.objects]
        if not verbs:
            return phrase
        verb = random.choice(verbs)
        clause = a_clause(random, a_subject(random, "p", relative=False), verb, simple=True)
        clause = replace(clause, accusative=None, dative=None)
        english = f"{'whom' if phrase.kind == 'p' else 'that'} {in_english(clause)}"
        german = f"{forms['a' if verb.frame == 't' else 'd']} {in_german(clause, 'sub')}"
    said = {case: f"{words}, {german}," for case, words in phrase.german.items()}
    negative = f"{phrase.negative}, {german}," if phrase.negative else ""
    return replace(
        phrase,
        english=f"{phrase.english} {english}",
        english_object=f"{phrase.english_object} {english}",
        german=said,
        negative=negative,
    )


def a_subject(random: Random, kind: str, *, relative: bool = True) -> Phrase:
    """A subject of a kind: for persons also a pronoun or a name."""
    if kind == "p":
        draw = random.random()
        if draw < 0.35:
            return pronoun(random.choice(("1s", "1p", "m", "f", "p")))
        if draw < 0.55:
            return _name(random)
    return noun_phrase(random, kind, relative=relative)


def _own(phrase: Phrase) -> str:
    if phrase.person in ("3s", "3p"):
        return phrase.gender if phrase.kind == "p" and phrase.gender in ("m", "f", "p") else ""
    return phrase.person


# --- drawing clauses


def a_clause(
    random: Random, subject: Phrase, verb: Verb, *, simple: bool = False, tense: str = "", definite: bool = False
) -> Clause:
    """A clause of a subject and a verb, with all that the verb takes; a `simple` one has no adverbials."""
    tense = tense or _tense(random, subject, verb, simple)
    own, frame = _own(subject), verb.frame
    negated = random.random() < 0.15
    accusative = dative = nominative = tail = None
    if frame in ("t", "g", "put"):
        accusative = _object(random, verb.objects, own, simple, definite or frame != "t", subject)
    if frame == "g":
        dative = _object(random, "p", own, True, True, subject)
        accusative = noun_phrase(random, random.choice(verb.objects), own=own, relative=False)
    elif frame == "d":
        dative = _object(random, verb.objects, own, simple, True, subject)
    elif frame == "s":
        nominative = noun_phrase(random, random.choice(verb.objects), own=own, relative=not simple, definite=True)
    elif frame in ("m", "l", "put"):
        tail = a_place(
            random, "o" if frame == "m" else ("u" if frame == "put" else random.choice(verb.objects)), frame, own
        )
    elif "," in frame:
        english, german, case = frame.split(",")
        thing = _object(random, verb.objects, own, True, False, subject)
        if thing.light and thing.kind != "p":
            thing = noun_phrase(random, thing.kind, own=own, relative=False)
        tail = f"{english} {thing.english_object}", _contracted(f"{german} {thing.german[case]}")
    time = None
    if tense != "since" and not simple and verb.base not in ("belong to", "need", "know") and random.random() < 0.45:
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
    if (
        frame in ("i", "t")
        and subject.kind == "p"
        and not simple
        and random.random() < 0.12
        and tense not in ("like", "perfect")
    ):
        manner = random.choice(lexicon.manners())
        if manner[0] == "together" and subject.person in ("1s", "2s", "3s"):
            manner = ("alone", "allein")
    if (
        frame == "i"
        and subject.kind in "pa"
        and not tail
        and not simple
        and random.random() < 0.4
        and verb.prefix == ""
    ):
        tail = a_place(random, "o", "l", own)
    return Clause(subject, verb, tense, negated, accusative, dative, nominative, tail, None, time, manner)


def _tense(random: Random, subject: Phrase, verb: Verb, simple: bool) -> str:
    if simple:
        return random.choice(("present", "past"))
    if subject.kind not in "pa" or verb.frame == "s" or verb.base in STATES:
        return random.choice(("present", "present", "past"))
    if verb.base in ("live", "work", "wait", "sit") and random.random() < 0.25:
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
    if (
        draw < 0.77
        and subject.kind == "p"
        and verb.frame in ("i", "t", "d", "m")
        and verb.base not in ("get lost", "die", "forget", "lose", "fall asleep", "understand")
    ):
        return "like"
    return random.choice(PAST_MODALS if draw > 0.92 else PRESENT_MODALS)


def _object(random: Random, kinds: str, own: str, simple: bool, definite: bool, subject: Phrase) -> Phrase:
    kind = random.choice(kinds)
    if kind == "p":
        draw = random.random()
        if draw < 0.3:
            choices = [key for key in ("1s", "1p", "m", "f", "p") if key != own and not (own in "mf" and key in "mf")]
            choices = [key for key in choices if key[0] != subject.person[0]] or ["f"]
            return pronoun(random.choice(choices))
        if draw < 0.5:
            return _name(random)
    return noun_phrase(random, kind, own=own, relative=not simple, definite=definite)


def a_place(random: Random, kind: str, frame: str, own: str) -> tuple[str, str]:
    """A place or, after verbs of moving and placing, a direction (English, German)."""
    case = "a" if frame in ("m", "put") else "d"
    draw = random.random()
    if kind == "o" and draw < 0.2:
        city = random.choice(list(lexicon.CITIES))
        return (
            (f"to {city}", f"nach {lexicon.CITIES[city]}")
            if case == "a"
            else (f"in {city}", f"in {lexicon.CITIES[city]}")
        )
    if kind == "o" and draw < 0.3:
        return ("home", "nach Hause") if case == "a" else ("at home", "zu Hause")
    noun = random.choice(lexicon.nouns()[kind])
    phrase = noun_phrase(random, kind, own=own, relative=False, definite=True, noun=noun)
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
    for long, short in (
        ("in dem ", "im "),
        ("in das ", "ins "),
        ("an dem ", "am "),
        ("an das ", "ans "),
        ("von dem ", "vom "),
        ("zu dem ", "zum "),
        ("zu der ", "zur "),
    ):
        if words.startswith(long):
            return short + words[len(long) :]
    return words


def _predicate(random: Random, subject: Phrase, kind: str) -> tuple[str, str]:
    adjective = random.choice(lexicon.adjectives()[kind])
    draw = random.random()
    if draw > 0.35:
        degree = random.choice((("", ""), ("", ""), ("very ", "sehr "), ("too ", "zu ")))
        return degree[0] + adjective.english, degree[1] + adjective.german
    other = (
        _name(random)
        if kind == "p" and draw < 0.15
        else noun_phrase(random, kind, own=_own(subject), relative=False, definite=True)
    )
    if draw < 0.1:
        return f"as {adjective.english} as {other.english}", f"so {adjective.german} wie {other.german['n']}"
    more = adjective.english_more or f"more {adjective.english}"
    return f"{more} than {other.english}", f"{adjective.german_more} als {other.german['n']}"


def copula(random: Random, subject: Phrase) -> Clause:
    """A clause that says how the subject is, or compares it."""
    return Clause(
        subject,
        None,
        random.choice(("present", "present", "past")),
        random.random() < 0.12,
        predicate=_predicate(random, subject, subject.kind),
    )


def any_clause(random: Random, subject: Phrase | None = None, *, simple: bool = False, relative: bool = True) -> Clause:
    """A clause of any kind, about `subject` if one is given."""
    subject = subject or a_subject(random, random.choice("pppppppaarctvhe"), relative=relative and not simple)
    verbs = lexicon.verbs().get(subject.kind, ())
    if not verbs or random.random() < 0.12:
        return copula(random, subject)
    return a_clause(random, subject, random.choice(verbs), simple=simple)


# --- saying clauses


def third_person(word: str) -> str:
    """The English third person singular of a verb; a particle keeps its place."""
    first, *rest = word.split(" ")
    if first.endswith(("s", "sh", "ch", "x", "o")):
        first += "es"
    elif first.endswith("y") and first[-2] not in "aeou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return " ".join([first, *rest])


def _english_verb(clause: Clause, order: str) -> tuple[str, str, str]:
    """(auxiliary, what follows it, the finite form that stands without do, or "" where the auxiliary stays)."""
    person, tense = clause.subject.person, clause.tense
    third = person == "3s"
    if clause.verb is None:
        past = "was" if person in ("1s", "3s") else "were"
        present = {"1s": "am", "3s": "is"}.get(person, "are")
        return (past if tense == "past" else present), "", ""
    base = clause.verb.base
    if tense in ("present", "past"):
        finite = clause.verb.past if tense == "past" else (third_person(base) if third else base)
        return ("did" if tense == "past" else "does" if third else "do"), base, finite
    if tense in ("perfect", "since"):
        return ("has" if third else "have"), clause.verb.participle, ""
    if tense in ("want", "like"):
        return ("does" if third else "do"), f"{tense} to {base}", f"{tense}{'s' if third else ''} to {base}"
    if tense == "wanted":
        return "did", f"want to {base}", f"wanted to {base}"
    if tense == "had to" or (tense == "must" and (clause.negated or order == "question")):
        do = "did" if tense == "had to" else "does" if third else "do"
        return do, f"have to {base}", f"had to {base}"
    return ("must" if tense == "may" and clause.negated else tense), base, ""


def in_english(clause: Clause, order: str = "main", front: str = "", gap: str = "") -> str:
    """English words of a clause; `order` main or question, `front` what is said before it, `gap` what is asked for."""
    auxiliary, rest, finite = _english_verb(clause, order)
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


def finite_german(verb: Verb, person: str) -> str:
    """The German present of a verb for a person, without its separable prefix."""
    if verb.stem == "mögen":
        return FORMS["mögen"][person]
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
        return FORMS["war" if tense == "past" else "sein"][person], "", ""
    if tense in ("present", "since", "like"):
        return finite_german(verb, person), verb.prefix, verb.prefix + "+" if verb.prefix else ""
    if tense in ("past", "perfect"):
        auxiliary = FORMS["haben" if verb.auxiliary == "h" else "sein"][person]
        return auxiliary, verb.german_participle, verb.german_participle
    infinitive = verb.prefix + verb.stem
    return FORMS["werden" if tense == "will" else tense][person], infinitive, infinitive


def in_german(clause: Clause, order: str = "main", front: str = "", gap: str = "") -> str:
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
        fields += (
            [*negation, heavy.german["a"]] if heavy and late else [*([heavy.german["a"]] if heavy else []), *negation]
        )
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
    elif order == "question" or (front == "time" and clause.time):
        first = [*light, said_subject] if clause.nominative and light else [said_subject, *light]
        lead = clause.time.german if front == "time" and clause.time else ""
        words = [lead, finite, *first, *fields, end]
    else:
        words = [said_subject, finite, *middle, end]
    return " ".join(word for word in words if word).replace("+", "")
