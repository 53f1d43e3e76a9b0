"""The words of the embedded English-German corpus, as tables.

Kinds: p person, a animal, f food, d drink, r reading, c clothes, v vehicle, o place, u furniture, h vessel, t thing,
e event. A verb, an adjective or a phrase says which kinds it takes; a word with two senses stands once for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

# English (plural after |) ; German ; gender ; plural ; kind ; for places: German preposition (in, auf, an), + if weak
NOUNS = """
man|men Mann m Männer p; woman|women Frau f Frauen p; child|children Kind n Kinder p; boy Junge m Jungen p+; girl
Mädchen n Mädchen p; teacher Lehrer m Lehrer p; doctor Arzt m Ärzte p; nurse Krankenschwester f Krankenschwestern p;
student Student m Studenten p+; pupil Schüler m Schüler p; baker Bäcker m Bäcker p; farmer Bauer m Bauern p+;
neighbour Nachbar m Nachbarn p+; friend Freund m Freunde p; brother Bruder m Brüder p; sister Schwester f Schwestern
p; mother Mutter f Mütter p; father Vater m Väter p; son Sohn m Söhne p; daughter Tochter f Töchter p; uncle Onkel m
Onkel p; aunt Tante f Tanten p; cook Koch m Köche p; judge Richter m Richter p; colleague Kollege m Kollegen p+; guest
Gast m Gäste p; king König m Könige p; queen Königin f Königinnen p; artist Künstler m Künstler p; policeman|policemen
Polizist m Polizisten p+; lawyer Anwalt m Anwälte p; painter Maler m Maler p; singer Sängerin f Sängerinnen p;
waitress|waitresses Kellnerin f Kellnerinnen p; customer Kunde m Kunden p+; pilot Pilot m Piloten p+; grandmother
Großmutter f Großmütter p; grandfather Großvater m Großväter p; cousin Cousin m Cousins p; boss|bosses Chef m Chefs p;
thief|thieves Dieb m Diebe p; baby|babies Baby n Babys p; soldier Soldat m Soldaten p+; writer Schriftsteller m
Schriftsteller p; secretary|secretaries Sekretärin f Sekretärinnen p; dog Hund m Hunde a; cat Katze f Katzen a; horse
Pferd n Pferde a; cow Kuh f Kühe a; pig Schwein n Schweine a; bird Vogel m Vögel a; mouse|mice Maus f Mäuse a;
sheep|sheep Schaf n Schafe a; goat Ziege f Ziegen a; duck Ente f Enten a; bear Bär m Bären a+; fox|foxes Fuchs m
Füchse a; lion Löwe m Löwen a+; rabbit Hase m Hasen a+; chicken Huhn n Hühner a; bat Fledermaus f Fledermäuse a; crane
Kranich m Kraniche a; elephant Elefant m Elefanten a+; monkey Affe m Affen a+; donkey Esel m Esel a; seal Robbe f
Robben a; frog Frosch m Frösche a; apple Apfel m Äpfel f; pear Birne f Birnen f; egg Ei n Eier f; cake Kuchen m Kuchen
f; potato|potatoes Kartoffel f Kartoffeln f; fish|fish Fisch m Fische f; sausage Wurst f Würste f; soup Suppe f Suppen
f; salad Salat m Salate f; tomato|tomatoes Tomate f Tomaten f; sandwich|sandwiches Brötchen n Brötchen f; orange
Orange f Orangen f; cherry|cherries Kirsche f Kirschen f; carrot Karotte f Karotten f; biscuit Keks m Kekse f; lemon
Zitrone f Zitronen f; chicken Hähnchen n Hähnchen f; onion Zwiebel f Zwiebeln f; pizza Pizza f Pizzas f; coffee Kaffee
m Kaffees d; tea Tee m Tees d; beer Bier n Biere d; juice Saft m Säfte d; wine Wein m Weine d; lemonade Limonade f
Limonaden d; book Buch n Bücher r; letter Brief m Briefe r; newspaper Zeitung f Zeitungen r; message Nachricht f
Nachrichten r; story|stories Geschichte f Geschichten r; poem Gedicht n Gedichte r; report Bericht m Berichte r; novel
Roman m Romane r; text Text m Texte r; card Karte f Karten r; magazine Zeitschrift f Zeitschriften r; article Artikel
m Artikel r; coat Mantel m Mäntel c; jacket Jacke f Jacken c; shirt Hemd n Hemden c; hat Hut m Hüte c; dress|dresses
Kleid n Kleider c; skirt Rock m Röcke c; scarf|scarves Schal m Schals c; sweater Pullover m Pullover c; shoe Schuh m
Schuhe c; tie Krawatte f Krawatten c; belt Gürtel m Gürtel c; car Auto n Autos v; bicycle Fahrrad n Fahrräder v;
bus|buses Bus m Busse v; train Zug m Züge v; ship Schiff n Schiffe v; truck Lastwagen m Lastwagen v; plane Flugzeug n
Flugzeuge v; boat Boot n Boote v; taxi Taxi n Taxis v; house Haus n Häuser o in; garden Garten m Gärten o in; school
Schule f Schulen o in; kitchen Küche f Küchen o in; city|cities Stadt f Städte o in; village Dorf n Dörfer o in;
forest Wald m Wälder o in; church|churches Kirche f Kirchen o in; hospital Krankenhaus n Krankenhäuser o in; market
Markt m Märkte o auf; street Straße f Straßen o auf; lake See m Seen o an; beach|beaches Strand m Strände o an; river
Fluss m Flüsse o an; station Bahnhof m Bahnhöfe o an; office Büro n Büros o in; restaurant Restaurant n Restaurants o
in; museum Museum n Museen o in; park Park m Parks o in; theatre Theater n Theater o in; library|libraries Bibliothek
f Bibliotheken o in; hotel Hotel n Hotels o in; castle Schloss n Schlösser o in; factory|factories Fabrik f Fabriken o
in; room Zimmer n Zimmer o in; bridge Brücke f Brücken o auf; mountain Berg m Berge o auf; island Insel f Inseln o
auf; bank Bank f Banken o in; pharmacy|pharmacies Apotheke f Apotheken o in; square Platz m Plätze o auf; corner Ecke
f Ecken o an; table Tisch m Tische u; chair Stuhl m Stühle u; bed Bett n Betten u; cupboard Schrank m Schränke u; sofa
Sofa n Sofas u; bench|benches Bank f Bänke u; shelf|shelves Regal n Regale u; desk Schreibtisch m Schreibtische u;
armchair Sessel m Sessel u; box|boxes Kiste f Kisten u; bottle Flasche f Flaschen h; glass|glasses Glas n Gläser h;
cup Tasse f Tassen h; plate Teller m Teller h; vase Vase f Vasen h; lamp Lampe f Lampen h; bucket Eimer m Eimer h;
bowl Schüssel f Schüsseln h; pot Topf m Töpfe h; key Schlüssel m Schlüssel t; clock Uhr f Uhren t; ring Ring m Ringe
t; picture Bild n Bilder t; knife|knives Messer n Messer t; spoon Löffel m Löffel t; fork Gabel f Gabeln t; ball Ball
m Bälle t; bag Tasche f Taschen t; computer Computer m Computer t; bulb Birne f Birnen t; pencil Bleistift m
Bleistifte t; bat Schläger m Schläger t; match|matches Streichholz n Streichhölzer t; flower Blume f Blumen t; present
Geschenk n Geschenke t; lock Schloss n Schlösser t; umbrella Regenschirm m Regenschirme t; telephone Telefon n
Telefone t; mirror Spiegel m Spiegel t; ticket Fahrkarte f Fahrkarten t; seal Siegel n Siegel t; candle Kerze f Kerzen
t; mouse|mice Maus f Mäuse t; concert Konzert n Konzerte e; match|matches Spiel n Spiele e; film Film m Filme e;
party|parties Feier f Feiern e; trip Reise f Reisen e; lesson Unterrichtsstunde f Unterrichtsstunden e; exam Prüfung f
Prüfungen e; meeting Besprechung f Besprechungen e; play Theaterstück n Theaterstücke e; conversation Gespräch n
Gespräche e
"""

# English base, past, participle ; German infinitive (prefix|stem), er-form (- if regular), participle, h(aben)/s(ein) ;
# frame : subject kinds : object kinds.  Frames: i nothing, t accusative, d dative, g dative person and accusative,
# m direction, l place, s subject and object swapped (English likes = German pleases), r reflexive, and
# English+German preposition+case for prepositional objects. A placing verb is `put`.
VERBS = """
see saw seen sehen sieht gesehen h t:pa:paortvche; hear heard heard hören - gehört h t:pa:pa; buy bought bought kaufen
- gekauft h t:p:fdrcvhtu; sell sold sold verkaufen - verkauft h t:p:fdrcvhtu; read read read lesen liest gelesen h
t:p:r; write wrote written schreiben - geschrieben h t:p:r; eat ate eaten essen isst gegessen h t:p:f; eat ate eaten
fressen frisst gefressen h t:a:f; drink drank drunk trinken - getrunken h t:p:d; find found found finden - gefunden h
t:pa:parctvh; lose lost lost verlieren - verloren h t:p:ctr; look_for looked_for looked_for suchen - gesucht h
t:pa:pactr; know knew known kennen - gekannt h t:p:por; love loved loved lieben - geliebt h t:p:pa; visit visited
visited besuchen - besucht h t:p:po; ask asked asked fragen - gefragt h t:p:p; carry carried carried tragen trägt
getragen h t:p:thu; wear wore worn tragen trägt getragen h t:p:c; wash washed washed waschen wäscht gewaschen h
t:p:cv; clean cleaned cleaned putzen - geputzt h t:p:uoth; repair repaired repaired reparieren - repariert h t:p:vut;
break broke broken zerbrechen zerbricht zerbrochen h t:p:h; forget forgot forgotten vergessen vergisst vergessen h
t:p:rtcp; draw drew drawn zeichnen - gezeichnet h t:p:aph; paint painted painted malen - gemalt h t:p:apoh; cook
cooked cooked kochen - gekocht h t:p:f; bake baked baked backen backt gebacken h t:p:f; steal stole stolen stehlen
stiehlt gestohlen h t:p:crtv; hide hid hidden verstecken - versteckt h t:pa:tr; need needed needed brauchen -
gebraucht h t:p:cthvp; catch caught caught fangen fängt gefangen h t:a:a; watch watched watched beobachten -
beobachtet h t:pa:pa; watch watched watched an|sehen sieht angesehen h t:p:e; understand understood understood
verstehen - verstanden h t:p:pr; translate translated translated übersetzen - übersetzt h t:p:r; explain explained
explained erklären - erklärt h t:p:re; close closed closed schließen - geschlossen h t:p:o; build built built bauen -
gebaut h t:p:ou; lead led led leiten - geleitet h t:p:oe; bite bit bitten beißen - gebissen h t:a:pa; hit hit hit
schlagen schlägt geschlagen h t:p:pa; pull pulled pulled ziehen - gezogen h t:pa:vu; follow followed followed folgen -
gefolgt s d:pa:pa; help helped helped helfen hilft geholfen h d:p:p; thank thanked thanked danken - gedankt h d:p:p;
answer answered answered antworten - geantwortet h d:p:p; believe believed believed glauben - geglaubt h d:p:p;
congratulate congratulated congratulated gratulieren - gratuliert h d:p:p; trust trusted trusted vertrauen - vertraut
h d:p:p; give gave given geben gibt gegeben h g:p:frcthd; show showed shown zeigen - gezeigt h g:p:rtcvo; send sent
sent schicken - geschickt h g:p:r; bring brought brought bringen - gebracht h g:p:frdth; lend lent lent leihen -
geliehen h g:p:rtvc; tell told told erzählen - erzählt h g:p:r; promise promised promised versprechen verspricht
versprochen h g:p:trv; recommend recommended recommended empfehlen empfiehlt empfohlen h g:p:rfoe; sleep slept slept
schlafen schläft geschlafen h i:pa:-; laugh laughed laughed lachen - gelacht h i:p:-; cry cried cried weinen - geweint
h i:p:-; dance danced danced tanzen - getanzt h i:p:-; sing sang sung singen - gesungen h i:p:-; work worked worked
arbeiten - gearbeitet h i:p:-; play played played spielen - gespielt h i:pa:-; swim swam swum schwimmen - geschwommen
s i:pa:-; wait waited waited warten - gewartet h i:p:-; smile smiled smiled lächeln - gelächelt h i:p:-; smoke smoked
smoked rauchen - geraucht h i:p:-; get_up got_up got_up auf|stehen - aufgestanden s i:p:-; wake_up woke_up woken_up
auf|wachen - aufgewacht s i:pa:-; fall_asleep fell_asleep fallen_asleep ein|schlafen schläft eingeschlafen s i:pa:-;
come_back came_back come_back zurück|kommen - zurückgekommen s i:pa:-; begin began begun an|fangen fängt angefangen h
i:e:-; end ended ended enden - geendet h i:e:-; leave left left ab|fahren fährt abgefahren s i:v:-; arrive arrived
arrived an|kommen - angekommen s i:pv:-; die died died sterben stirbt gestorben s i:pa:-; go_out went_out gone_out
aus|gehen - ausgegangen s i:p:-; call called called an|rufen - angerufen h t:p:p; pick_up picked_up picked_up ab|holen
- abgeholt h t:p:p; invite invited invited ein|laden lädt eingeladen h t:p:p; open opened opened auf|machen -
aufgemacht h t:p:rht; put_on put_on put_on an|ziehen - angezogen h t:p:c; try_on tried_on tried_on an|probieren -
anprobiert h t:p:c; throw_away threw_away thrown_away weg|werfen wirft weggeworfen h t:p:rtc; bring_along
brought_along brought_along mit|bringen - mitgebracht h t:p:fdrt; prepare prepared prepared vor|bereiten - vorbereitet
h t:p:e; read_aloud read_aloud read_aloud vor|lesen liest vorgelesen h t:p:r; give_back gave_back given_back
zurück|geben gibt zurückgegeben h t:p:rt; tidy_up tidied_up tidied_up auf|räumen - aufgeräumt h t:p:o; look_at
looked_at looked_at an|sehen sieht angesehen h t:pa:patvr; go went gone gehen - gegangen s m:p:o; run ran run laufen
läuft gelaufen s m:pa:o; drive drove driven fahren fährt gefahren s m:p:o; walk walked walked gehen - gegangen s
m:a:o; come came come kommen - gekommen s m:pa:o; live lived lived wohnen - gewohnt h l:p:o; stand stood stood stehen
- gestanden h l:ph:ou; lie lay lain liegen - gelegen h l:rca:u; sit sat sat sitzen - gesessen h l:pa:uo; stay stayed
stayed bleiben - geblieben s l:p:o; hang hung hung hängen - gehangen h l:c:u; lie lay lain liegen - gelegen h l:t:u;
stand stood stood stehen - gestanden h l:v:o; put put put legen - gelegt h put:p:rct; put put put stellen - gestellt h
put:p:h; like liked liked gefallen gefällt gefallen h s:p:rctvohe; like liked liked schmecken - geschmeckt h s:p:fd;
like liked liked mögen mag gemocht h t:p:p; miss missed missed fehlen - gefehlt h s:p:p; miss missed missed verpassen
- verpasst h t:p:ve; hurry hurried hurried beeilen - beeilt h r:p:-; rest rested rested aus|ruhen - ausgeruht h r:p:-;
get_lost got_lost got_lost verlaufen verläuft verlaufen h r:p:-; apologize apologized apologized entschuldigen -
entschuldigt h r:p:-; sit_down sat_down sat_down setzen - gesetzt h r:p:-; wait waited waited warten - gewartet h
for,auf,a:p:pvr; think thought thought denken - gedacht h of,an,a:p:pae; talk talked talked sprechen spricht
gesprochen h to,mit,d:p:p; dream dreamed dreamed träumen - geträumt h of,von,d:p:pcev; laugh laughed laughed lachen -
gelacht h at,über,a:p:p; play played played spielen - gespielt h with,mit,d:pa:pat; write wrote written schreiben -
geschrieben h to,an,a:p:p; ask asked asked bitten - gebeten h for,um,a:p:rft; travel travelled travelled reisen -
gereist s with,mit,d:p:pv; talk talked talked sprechen spricht gesprochen h about,über,a:p:pre; believe believed
believed glauben - geglaubt h in,an,a:p:p; belong_to belonged_to belonged_to gehören - gehört h d:ctrvh:p
"""

# English, comparative ; German, comparative, kinds (* = all)
ADJECTIVES = """
big bigger groß größer *; small smaller klein kleiner *; old older alt älter *; new newer neu neuer rctvohu; young
younger jung jünger pa; beautiful - schön schöner *; ugly uglier hässlich hässlicher *; good better gut besser
pfdretv; bad worse schlecht schlechter fdre; expensive - teuer teurer fdrctvhu; cheap cheaper billig billiger
fdrctvhu; red redder rot röter cvthuf; green greener grün grüner cvthuf; blue bluer blau blauer cvthu; yellow yellower
gelb gelber cvth; black blacker schwarz schwärzer cvthua; white whiter weiß weißer cvthua; brown browner braun brauner
cuha; grey greyer grau grauer cua; long longer lang länger rce; short shorter kurz kürzer rce; short shorter klein
kleiner p; tall taller groß größer p; tall taller hoch höher o; strong stronger stark stärker pa; weak weaker schwach
schwächer pa; strong stronger stark stärker d; friendly friendlier freundlich freundlicher pa; clever cleverer klug
klüger pa; stupid - dumm dümmer p; happy happier glücklich glücklicher p; sad sadder traurig trauriger pr; tired -
müde müder pa; hungry hungrier hungrig hungriger pa; sick sicker krank kränker pa; healthy healthier gesund gesünder
paf; rich richer reich reicher p; poor poorer arm ärmer p; lazy lazier faul fauler pa; rotten - faul fauler f;
hard-working - fleißig fleißiger p; fast faster schnell schneller vpa; slow slower langsam langsamer vpa; loud louder
laut lauter pave; quiet quieter leise leiser pav; quiet quieter ruhig ruhiger o; warm warmer warm wärmer cfd; cold
colder kalt kälter fdo; hot hotter heiß heißer fd; fresh fresher frisch frischer f; sweet sweeter süß süßer fd; heavy
heavier schwer schwerer tuhv; hard harder schwer schwerer e; hard harder hart härter u; light lighter leicht leichter
tuhc; light lighter hell heller o; easy easier einfach einfacher re; difficult - schwierig schwieriger re; boring -
langweilig langweiliger rep; interesting - interessant interessanter repo; important - wichtig wichtiger rep; famous -
berühmt berühmter pro; dirty dirtier schmutzig schmutziger cvhoau; clean cleaner sauber sauberer cvhou; empty emptier
leer leerer hov; full fuller voll voller hv; dark darker dunkel dunkler oc; dangerous - gefährlich gefährlicher aov;
wild wilder wild wilder a; modern - modern moderner ouvt; narrow narrower eng enger o; tight tighter eng enger c; wide
wider breit breiter uo; round rounder rund runder uht; angry angrier wütend wütender pa; polite - höflich höflicher p;
brave braver mutig mutiger p; honest - ehrlich ehrlicher p; strict stricter streng strenger p; nice nicer nett netter
p; nice nicer schön schöner coe; broken - kaputt kaputter vtu; practical - praktisch praktischer ctu; curious -
neugierig neugieriger pa; strange stranger seltsam seltsamer prae; funny funnier lustig lustiger pre; elegant -
elegant eleganter pc; tasty tastier lecker leckerer fd
"""

# English ; German ; tenses (p present, a past, f future and modal verbs) ; s before the English verb, else at the end
TIMES = """
yesterday;gestern;a; | today;heute;pfa; | tomorrow;morgen;f; | now;jetzt;p; | often;oft;pa;s | always;immer;pa;s |
never;nie;pa;s | sometimes;manchmal;pa;s | every day;jeden Tag;pf; | in the evening;am Abend;paf; | on Monday;am
Montag;af; | in the morning;am Morgen;pa; | last week;letzte Woche;a; | next week;nächste Woche;f; | next
year;nächstes Jahr;f; | two days ago;vor zwei Tagen;a; | a year ago;vor einem Jahr;a; | at night;nachts;p; | in
summer;im Sommer;pf; | seldom;selten;pa;s | at eight o'clock;um acht Uhr;pa; | on Sundays;sonntags;p; | last
night;gestern Abend;a; | this morning;heute Morgen;a; | soon;bald;f; | three weeks ago;vor drei Wochen;a; | on
Friday;am Freitag;af; | in winter;im Winter;pf; | usually;normalerweise;p;s | tonight;heute Abend;f; | the day after
tomorrow;übermorgen;f; | the day before yesterday;vorgestern;a; | in an hour;in einer Stunde;f; | after lunch;nach dem
Mittagessen;paf; | before work;vor der Arbeit;pa; | at the weekend;am Wochenende;paf;
"""

MANNERS = """
quickly schnell; slowly langsam; carefully vorsichtig; alone allein; together zusammen; quietly leise; secretly
heimlich; happily fröhlich; angrily wütend; patiently geduldig
"""

WOMEN = ("Anna", "Lena", "Maria", "Julia", "Sophie", "Clara", "Emma", "Nina", "Eva", "Laura", "Greta", "Ida")
MEN = ("Paul", "Max", "Peter", "Jonas", "Felix", "Martin", "Karl", "Emil", "Otto", "Simon", "David", "Jan")
SURNAMES = ("Weber", "Fischer", "Wagner", "Becker", "Schulz", "Hoffmann", "Koch", "Richter", "Klein", "Wolf")
CITIES = {
    "Berlin": "Berlin",
    "Vienna": "Wien",
    "Munich": "München",
    "Hamburg": "Hamburg",
    "Cologne": "Köln",
    "Rome": "Rom",
    "Prague": "Prag",
    "Lisbon": "Lissabon",
    "Geneva": "Genf",
    "Leipzig": "Leipzig",
}
NUMBERS = {
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
    "eight": "acht",
    "nine": "neun",
    "ten": "zehn",
    "eleven": "elf",
    "twelve": "zwölf",
    "twenty": "zwanzig",
}


@dataclass(frozen=True)
class Noun:
    """A noun of both languages; `gender` m, f or n; `weak` masculines take the plural form outside the nominative."""

    english: str
    english_plural: str
    german: str
    gender: str
    german_plural: str
    kind: str
    weak: bool
    preposition: str


@dataclass(frozen=True)
class Verb:
    """A verb of both languages; `frame` says what it takes, the kinds of its subjects and objects are letters."""

    base: str
    past: str
    participle: str
    prefix: str
    stem: str
    third: str
    german_participle: str
    auxiliary: str
    frame: str
    subjects: str
    objects: str


@dataclass(frozen=True)
class Adjective:
    """An adjective of both languages with comparatives (English "" = with "more")."""

    english: str
    english_more: str
    german: str
    german_more: str
    kinds: str


@dataclass(frozen=True)
class Time:
    """An adverbial of time: `tenses` it can stand with; `early` = before the English verb."""

    english: str
    german: str
    tenses: str
    early: bool


def _entries(table: str) -> list[list[str]]:
    return [entry.split() for entry in table.split(";") if entry.strip()]


@cache
def nouns() -> dict[str, tuple[Noun, ...]]:
    """The nouns by kind."""
    found: dict[str, list[Noun]] = {}
    for english, german, gender, plural, kind, *preposition in _entries(NOUNS):
        singular, _, many = english.partition("|")
        noun = Noun(
            singular, many or singular + "s", german, gender, plural, kind[0], "+" in kind, "".join(preposition)
        )
        found.setdefault(kind[0], []).append(noun)
    return {kind: tuple(words) for kind, words in found.items()}


@cache
def verbs() -> dict[str, tuple[Verb, ...]]:
    """The verbs by kind of subject."""
    found: dict[str, list[Verb]] = {}
    for base, past, participle, infinitive, third, german_participle, auxiliary, use in _entries(VERBS):
        prefix, _, stem = infinitive.rpartition("|")
        frame, subjects, objects = use.split(":")
        root = stem[:-2] if stem.endswith("en") else stem[:-1]
        third = root + ("et" if root.endswith(("d", "t", "chn")) else "t") if third == "-" else third
        base, past, participle = (word.replace("_", " ") for word in (base, past, participle))
        verb = Verb(base, past, participle, prefix, stem, third, german_participle, auxiliary, frame, subjects, objects)
        for kind in subjects.replace("-", ""):
            found.setdefault(kind, []).append(verb)
    return {kind: tuple(words) for kind, words in found.items()}


@cache
def adjectives() -> dict[str, tuple[Adjective, ...]]:
    """The adjectives by kind of what they describe."""
    words = [Adjective(e, "" if m == "-" else m, g, gm, kinds) for e, m, g, gm, kinds in _entries(ADJECTIVES)]
    return {kind: tuple(word for word in words if kind in word.kinds or word.kinds == "*") for kind in "pafdrcvouhte"}


@cache
def times() -> dict[str, tuple[Time, ...]]:
    """The adverbials of time by the tense they stand with."""
    rows = [" ".join(row.split()).split(";") for row in TIMES.split("|")]
    words = [Time(english.strip(), german, tenses, early.strip() == "s") for english, german, tenses, early in rows]
    return {tense: tuple(word for word in words if tense in word.tenses) for tense in "paf"}


@cache
def manners() -> tuple[tuple[str, str], ...]:
    """The adverbs of manner, English and German."""
    return tuple((english, german) for english, german in _entries(MANNERS))
