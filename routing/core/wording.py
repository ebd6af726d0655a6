"""What kind of work an instruction asks for, by how it is worded, in the languages that people write in.

An instruction stands at the beginning or at the end of a prompt; what lies between is the material. So its first and
last clauses are looked at, each for a demand ("summarize", "fasse ... zusammen", "要約") and for what makes the same
words a topic: a question about the thing ("how do I extract a tar.gz?"), or a text that is to be written about it. The
table is data: a line for each language and task. Most prompts hold none of its words, and finding that out is quick.
"""

import re
from typing import NamedTuple

from routing.core.requests import Task

#: Characters of an instruction's beginning and end that are read.
HEAD, TAIL = 400, 200
#: Clauses that are read at either end.
FIRST, LAST = 2, 2
#: The lines at the top of the table that decide alone.
SURE = 4
#: What may stand around a clause.
TRIMMED = " \t,:-–—*#>¿¡\"'"
#: Beyond this come scripts that are written without spaces.
UNSPACED = "\u2e80"

S, C, E, A = Task.SUMMARIZATION, Task.CLASSIFICATION, Task.EXTRACTION, Task.ANALYSIS

#: Kinds of things that are extracted, in any of the languages.
THINGS = (
    r"(?:names?|dates?|times?|entit(?:y|ies)|e-?mails?|phone|numbers?|address(?:es)?|keywords?|fields?|values?|amounts?"
    r"|prices?|totals?|locations?|places?|people|persons?|compan(?:y|ies)|organi[sz]ations?|urls?|links?|skills?|ids?"
    r"|ingredients?|products?|quotes?|figures|namen|daten|datum|termine|adressen?|betr[äa]ge?|nummern?|personen|orte|firmen"
    r"|noms?|dates?|adresses?|montants?|personnes|lieux|num[ée]ros?|entreprises|nombres?|fechas?|direcciones|correos?"
    r"|n[úu]meros?|personas|lugares|empresas|importes?|nomes?|datas?|endere[çc]os?|pessoas|valores|nomi|indirizzi|persone"
    r"|luoghi|numeri|importi|aziende|imiona|nazwiska|daty|adresy|kwoty|nazwy|datums|adressen|bedragen|personen"
    r"|имена|имя|дат[ыу]|адрес\w*|сумм[ыу]|номер\w*|телефон\w*|компани\w+|названия)"
)
#: Words that point at material which is given.
GIVEN = (
    r"(?:this|these|that|the following|below|above|attached|my|our|his|her|their|(?:the|following) (?:text|article|email"
    r"|passage|review|message|document|sentence|report|conversation|transcript|paragraph|story|paper|contract|tweet|comment"
    r"|data|code|letter|ticket|chapter|meeting|notes?|thread)|diese[rsnm]?|folgende[nrsm]?|den text|der text|des textes"
    r"|dem text|cet(?:te)?|ce texte|ces|suivante?s?|du texte|le texte|est[eao]s?|siguientes?|del texto|el texto|quest[aoie]"
    r"|seguent[ei]|del testo|dest[ea]s?|dess[ea]s?|seguintes?|do texto|o texto|deze|dit|volgende|de tekst|ten|tego|tę|te"
    r"|poniższ\w+|tekst\w*|эт(?:от|ого|их|у|о)|следующ\w+|текст\w*)"
)


class Demand(NamedTuple):
    """How a task is asked for: the first letters of words without which there is none, and the pattern.

    `firm`: the words ask for the task even in a question.
    """

    task: Task
    stems: tuple[str, ...]
    pattern: re.Pattern[str]
    firm: bool = False


def demand(task: Task, stems: str, pattern: str, *, firm: bool = False) -> Demand:
    return Demand(task, tuple(stems.split()), re.compile(pattern), firm)


#: Languages that are written with spaces. A word's first four letters decide whether a line is looked at at all.
TABLE: tuple[Demand, ...] = (
    # Feelings, yes or no, one of several: asked for as a question more often than not.
    demand(C, "sent tone emot", r"\b(?:(?:what|which|rate|determine|detect|identify|analy[sz]e|classify|give|find|predict|label|assess|evaluate|do|run|perform)\b.{0,40}\b(?:sentiment|tone|emotions?)\b(?! analysis is)|sentiment of\b|sentiment\s*$|sentiment analysis (?:of|on|for))", firm=True),
    demand(C, "posi nega neut spam ham toxi offe frau fake urge true fals", r"\b(?:positive|negative|neutral|spam|toxic|offensive|fraudulent|fake|urgent|true|false)\b.{0,30}\b(?:or|vs)\b.{0,20}\b(?:positive|negative|neutral|ham|not|toxic|offensive|real|urgent|true|false|legit\w*|normal|safe)\b|\bis (?:this|the following|it|that)\b.{0,60}\b(?:spam|toxic|offensive|hate speech|positive|negative|urgent)\b", firm=True),
    demand(C, "yes", r"\b(?:answer|respond|reply|say|output)\b.{0,30}\byes\b.{0,6}\bno\b|\byes or no\b|\byes/no\b", firm=True),
    demand(C, "whic what", r"\b(?:which|what) (?:one )?(?:of (?:these|the following) )?(?:the )?(?:categor(?:y|ies)|class(?:es)?|labels?|topics?|department|genre|intent|type of|language)\b.{0,60}\b(?:this|these|the following|it|does|best|belong|fits?|applies|below|is)\b", firm=True),
    demand(C, "inte tone mood topi cate genr lang emot pola stan clas", r"\bwhat(?:'s| is) the (?:intent|tone|mood|topic|category|genre|language|emotion|polarity|stance|class) of\b", firm=True),
    demand(C, "deci dete tell say judg stat chec", r"\b(?:decide|determine|tell me|say|judge|state|check) (?:whether|if)\b(?:.{0,80}\b(?:is|are|was)\b.{0,80}\bor\b| (?:this|these|the following|each)\b)"),
    demand(C, "dete iden pred reco gues", r"\bdetect (?:the )?(?:spam|hate speech|toxicity|sarcasm|language|sentiment|emotions?|fraud)\b|\b(?:determine|detect|identify|predict|recognize|guess)\b.{0,20}\b(?:language|topic|genre|intent|category|stance|mood|class|type) of\b"),
    demand(C, "mark ques", r"\b(?:a )?question or (?:a )?(?:statement|command|request)\b|\bmark (?:this|these|each|every|the following)\b.{0,40}\bas\b"),
    demand(C, "wahr rich vrai verd vero praw прав sag ents prüf gib indi dis déte dete di", r"\b(?:wahr|richtig) oder falsch\b|\bvrai ou faux\b|\bverdader[oa] o fals|\bvero o falso\b|\bverdadeir[oa] ou fals|\bprawda (?:czy|lub) fałsz\b|\bправда или ложь\b|\b(?:sage?|gib an|entscheide|prüfe|bestimme)\b.{0,10}\bob\b|\b(?:indi(?:que|ca)\w*|d[ée]termin\w+|dis|di)(?:[- ]moi)? s[ie]\b", firm=True),
    demand(C, "is", r"^is (?:this|the following|the|that|his|her|their)\b.{0,20}\b(?:tone|mood|style|text|comment|review|message|statement|sentence|claim|tweet|e-?mail|headline)\b.{0,40}\bor\b", firm=True),
    demand(C, "best ermi erke spam", r"\b(?:bestimme|ermittle|erkenne|bewerte)\b.{0,20}\b(?:stimmung|kategorie|sprache|tonalität|absicht|thema)\b|\bspam oder (?:nicht|kein)\b"),
    demand(C, "spam", r"\bspam\b.{0,3} (?:o|ou|or|oder|of|czy|или|lub|mi)\b", firm=True),
    demand(C, "صنف تصني", r"صنف|تصنيف"),
    demand(S, "لخص تلخي ملخص", r"لخص|تلخيص"),
    demand(E, "استخ", r"استخر"),
    demand(A, "حلل تحلي قارن", r"حلل|قارن"),
    demand(S, "woru rund key main", r"\bworum (?:es\b.{0,30}\bgeht|geht es)\b|\brundown (?:of|on)\b|\b(?:key|main) points of\b", firm=True),
    demand(E, "turn put conv orga", r"\b(?:turn|put|convert|organi[sz]e) (?:this|these|the following|my)\b.{0,40}\binto (?:an? )?(?:\w+ )?(?:table|json|csv|list)\b"),
    demand(A, "prüf go chec", r"\bprüfe\b.{0,60}\bauf\b|\bgo (?:through|over) (?:this|my|the|our)\b|\bcheck (?:this|my|the following)\b.{0,60}\bfor\b"),
    demand(A, "anal comp eval", r"(?:^|, )(?:analy[sz]e|compare|evaluate)(?: (?:it|this|that|them|why))?$", firm=True),
    demand(C, "posi pozy поло поз", r"\bpositi\w+, negati\w+|\bpozytywn\w+, negatywn\w+|\bпозитивн\w+, негативн\w+", firm=True),
    demand(C, "clas cate labe tag", r"\b(?:classify|categori[sz]e|classification of|label|tag)\b(?!\s+(?:mean|maker|printer))"),
    demand(C, "assi choo pick sort", r"\bassign\b.{0,40}\b(?:label|categor|class|tag)|\b(?:choose|pick|select) (?:exactly )?one (?:of|category|label)|\bsort (?:this|these|the following|each)\b.{0,60}\b(?:into|by (?:urgency|priority|category|topic|type|sentiment))\b"),
    demand(C, "klas kate einr einz zuor ordn zuge", r"\bklassifizier\w*|\bkategorisier\w*|\b(?:ordne|teile)\b.{0,80}\b(?:zu|ein|kategorie\w*|klasse\w*)\b|\beinordnen\b|\bzuordnen\b"),
    demand(C, "posi nega", r"\b(?:positiv|negativ)\w*,? (?:oder|ou|o|of|czy|eller)(?: \w+)? (?:positiv|negativ|neutral)\w*|\bpositie[fv]\w* of negatie|\bpozytywn\w+,? (?:czy|lub)|\bpositiva?o?,? (?:o|ou) negativ|\bpositi(?:f|ve),? (?:ou )?n[ée]gati[fv]", firm=True),
    demand(C, "pozy stim welc quel qué qual jaki wel ja oui sí sì sim tak stemm", r"\bpozytywn\w+ (?:czy|lub)|\bwelche[rsnm]? (?:kategorie|klasse|sprache|stimmung|thema)\b|\bquelle?s? (?:est (?:la |le )?)?(?:cat[ée]gorie|langue|classe|sentiment)\b|\bqu[ée] (?:categor[íi]a|idioma|sentimiento|clase)\b|\bquale? (?:categoria|lingua|sentimento|classe)\b|\bqual (?:a |é a )?(?:categoria|l[íi]ngua|sentimento)\b|\bjak(?:a|i) (?:kategoria|j[ęe]zyk|sentyment)\b|\bwelke (?:categorie|taal)\b|\b(?:ja oder nein|oui ou non|s[íi] o no|s[ìi] o no|sim ou n[ãa]o|tak (?:czy|lub) nie|ja of nee|ja eller nej)\b", firm=True),
    demand(C, "clas caté cate étiq etiq cata", r"\bclass(?:e|er|ez|ifie\w*)\b|\bcat[ée]goris\w+|\b[ée]tiquet\w+|\bclasific\w+|\bcategoriz\w+|\betiquet\w+|\bclassifi\w+|\bcategorizz\w+|\bclassificeer\w*|\bcategoriseer\w*"),
    demand(C, "skla zakl skat przy okre", r"\b(?:s|za)klasyfiku\w+|\bskategoryzu\w+|\bprzypisz\b.{0,40}\bkategori|\bokreśl\b.{0,20}\b(?:sentyment|kategori|język)"),
    demand(C, "клас кате опре отне пози поло спам да отно", r"\bклассифицир\w+|\bкатегоризир\w+|\bопредели\w*\b.{0,20}\b(?:тональност|категори|язык|жанр|тем|настроен|эмоци)|\b(?:позитивн|положительн)\w+ (?:или|либо)|\bк как(?:ой|ому) (?:категори|класс|тип)|\bспам (?:или|ли)|\bда или нет\b", firm=True),
    demand(C, "sını kate olum kate klas kate", r"\bsınıflandır\w*|\bkategorize\b|\bolumlu mu\b|\bklassificera\w*|\bkategorisera\w*|\bklassificer\w*"),
    demand(S, "summ sum tldr cond reca shor boil gist", r"\bsummari[sz]e\b|\bsum(?:ming)? (?:it |this |that |these |them )?up\b|\btldr\b|\bcondense\b|\brecap\b|\bshorten (?:this|the|it|my)\b|\bboil\b.{0,30}\bdown\b|\bsummarized version\b"),
    demand(S, "summ gist abst dige syno over reca exec", r"\b(?:write|give|make|provide|create|need|want|produce|prepare|generate|get|have|offer|draft)\b.{0,40}\b(?:summary|abstract|digest|synopsis|gist|recap|executive summary|tldr)\b|^(?:a |the )?(?:short |brief |concise |quick |executive |one[- ]\w+ )*(?:summary|synopsis|gist|recap)\b(?: of\b| please|$)"),
    demand(S, "gist main key take esse", r"\b(?:gist|main (?:points?|ideas?)|key (?:points?|takeaways?|ideas?|messages?)|essence) (?:of|from|in)\b.{0,20}\b" + GIVEN, firm=True),
    demand(S, "what make abou over nuts dist shor bull conc redu", r"\bwhat(?:'s| is| does| are) " + GIVEN + r"\b.{0,30}\b(?:about|say)\b|\bdistil\w*\b|\breduce (?:this|the)\b.{0,40}\b(?:essentials?|words|sentences?)\b|\b(?:short|shorter|condensed|concise|abridged) version\b|\b(?:in(?:to)?|as) (?:\w+ ){0,2}bullet(?: point)?s\b|\bmake (?:this|it|that|the \w+|my \w+) (?:much |a bit |a lot )?(?:shorter|more concise)\b|\boverview of " + GIVEN + r"\b|\bin a nutshell\b", firm=True),
    demand(S, "fass zusa kurz kürz", r"\bfass\w*\b.{0,200}\bzusammen\b|\bzusammen(?:fass\w*|zufassen)\b(?! ist| bedeutet)|\bkurzfassung\b|\bkürze (?:den|diesen|das|dieses|die)\b|\bin kurzform\b"),
    demand(S, "résu resu synt sint", r"\brésum(?:e|er|ez|es|é de|é du|é des|é court)\b|\bresum(?:er|ez)\b|\b(?:fais|faire|donne|rédige|écris|fournis)\w*\b.{0,30}\b(?:r[ée]sum[ée]|synth[èe]se)\b|\bsynth[ée]tis\w+|(?:^|\b(?:por favor,?|y|e|puedes?|podr[íi]as|pode|poderia|hay que|quiero|preciso|ahora|agora) )(?:me )?resum(?:e(?! (?:where|from|our|playing|work|reading|the))|ir|en|ime|a|an|o|ela|elo|id|irme)\b|\bresumen (?:de|del|breve|corto)|\bsintetiz\w+"),
    demand(S, "rias sint sunt", r"\briassum\w+|\briassunto\b|\bsintetizza\w*|\bsintesi (?:di|del)"),
    demand(S, "vat same kort", r"\bvat\b.{0,200}\bsamen\b|\bsamenvat\w*|\bin het kort\b"),
    demand(S, "pods stre skró", r"\bpodsumuj\w*|\bpodsumowanie\b|\bstreść\b|\bstreszcz\w*|\bskróć\b"),
    demand(S, "крат поды рези сумм выжи сокр пере підс сти", r"\bкратк\w+\b.{0,30}\b(?:излож|переска|опиш|содержан|резюм|вывод|сводк)\w*|\bподытож\w*|\bрезюмир\w*|\b(?:сделай|напиши|дай|составь)\b.{0,30}\b(?:резюме|пересказ|выжимк|сводк)\w*|\bсуммиру\w*|\bперескажи\w*|\bсократи\w*|\bпідсумуй\w*"),
    demand(S, "samm opps opsu özet tiiv", r"\bsammanfatta\w*|\bsammenfat\w*|\boppsummer\w*|\bopsummer\w*|\bözetle\w*|\bözet\w*\b.{0,20}\b(?:çıkar|yaz|ver)|\btiivistä\w*"),
    demand(E, "extr pull pars scra fetc", r"\bextract\b|\bextraction of\b|\bpull (?:out|the|all|every)\b|\bparse (?:the|this|these|out)\b"),
    demand(E, "list find iden retu get give name high coll writ out show what whic", r"\b(?:list|find|identify|return|get|give(?: me)?|name|collect|highlight|write down|output|show(?: me)?|pick out|note)\b.{0,20}\b(?:all|every|any|each|the)\b.{0,40}\b" + THINGS + r"\b.{0,40}\b(?:mentioned|in|from|that|of|found|appear\w*|below|above|out)\b"),
    demand(E, "list find get give retu name", r"\b(?:list|give(?: me)?|find|get|return|name)\b.{0,20}\b(?:their|its|his|her|\w+'s)\b.{0,20}\b" + THINGS),
    demand(E, "whic what who", r"\b(?:which|what|who)\b.{0,20}\b" + THINGS + r"\b.{0,30}\b(?:mentioned|appear\w*|listed|named|found|occur)\b|\bwhat (?:is|are) the (?:invoice|order|phone|tracking|account|total|due|reference)\b.{0,20}\b(?:number|id|date|amount|address)?\b.{0,20}\b(?:in|on|of) " + GIVEN, firm=True),
    demand(E, "retu outp as json fill conv into", r"\b(?:return|output|give|produce|respond|reply|answer|as|in|into|to)\b.{0,30}\b(?:a )?(?:valid )?json\b.{0,60}\b(?:with|containing|fields?|keys?|from|of)\b|\bfill\b.{0,30}\bjson\b|\b(?:return|give|extract|output|list)\b.{1,60}\b(?:in|as) (?:valid )?json\b"),
    demand(E, "extr entn lies zieh such find list nenn filt gib sämt iden", r"\bextrahier\w*|\bfilter[en]?\b.{0,60}\bheraus\b|\bentn(?:imm|ehme)\w*|\bzieh\w*\b.{0,80}\bheraus\b|\bheraus(?:zu)?(?:zieh|such|les|filter)\w*|\b(?:liste|nenne?|finde?|suche?|gib|zeige?|identifiziere)\b.{0,30}\b(?:alle|sämtliche|jede\w?|die)\b.{0,50}\b" + THINGS),
    demand(E, "welc quel qué cuál qual qual jaki welk", r"\b(?:welche[rsnm]?|quel(?:le)?s?|qu[ée]|cu[áa]les|qua(?:is|l|li)|jakie|welke)\b.{0,20}\b" + THINGS + r"\b.{0,30}\b(?:genannt|erwähnt|vor|steh\w+|mentionn\w+|cit[ée]\w*|apparai\w+|menciona\w*|aparece\w*|citad\w+|menzionat\w+|wymienion\w+|genoemd)\b", firm=True),
    demand(E, "extr rele relè list donn trou iden tous", r"\bextra(?:is|ire|yez|ction)\b|\brel[èe]ve\b|\b(?:liste|donne|trouve|identifie|cite|[ée]num[èe]re)\w*\b.{0,30}\b(?:tou(?:s|tes)|les|chaque)\b.{0,50}\b" + THINGS),
    demand(E, "extr list enum encu iden dame enco busc saca", r"\bextra(?:e|er|iga|ia|ir|i|cci[óo]n)\b|\b(?:lista|enumera|encuentra|identifica|dame|busca|saca|liste|encontre|identifique|indica)\w*\b.{0,30}\b(?:tod[oa]s|l[oa]s|os|as|cada)\b.{0,50}\b" + THINGS),
    demand(E, "estr elen trov indi iden", r"\bestra(?:i|rre|rr\w*|zione)\b|\b(?:elenca|trova|identifica|indica|individua)\w*\b.{0,30}\b(?:tutt[ie]|i|le|gli|ogni)\b.{0,50}\b" + THINGS),
    demand(E, "haal extr noem geef vind zoek", r"\bhaal\b.{0,80}\buit\b|\bextraheer\w*|\b(?:noem|geef|vind|zoek)\b.{0,30}\balle\b.{0,50}\b" + THINGS),
    demand(E, "wyod wyci wypi ekst znaj", r"\bwyodrębnij\w*|\bwyciągnij\w*|\bwypisz\b|\bekstrah\w*|\bznajdź\b.{0,30}\bwszystkie\b"),
    demand(E, "извл выпи выта найд пере выде вытя", r"\bизвле\w+|\bвыпиши\w*|\bвытащи\w*|\bвытяни\w*|\b(?:найди|перечисли|выдели)\w*\b.{0,30}\b(?:все|всех|каждый)\b.{0,50}\b" + THINGS),
    demand(E, "çıka extr udtr trek", r"\bçıkar\b|\bextrahera\w*|\budtræk\w*|\btrekk ut\b"),
    demand(A, "anal eval asse comp cont crit revi inve inte diag exam scru", r"\banaly[sz]e\b|^(?:an? |the |in-depth |detailed |full |swot |data |market |financial )*analysis (?:of|on)\b|\b(?:write|give|provide|do|perform|make|conduct|prepare|need|want|run)\b.{0,40}\b(?:analysis|comparison|evaluation|assessment|critique|root cause)\b|\bevaluate\b|\bassess\b|\bcompare\b|\bcontrast\b|\bcritique\b|\bcritically\b|\breview (?:this|the|my|our|these)\b|\bcode review\b|\binvestigate\b|\binterpret (?:the|this|these)\b|\bdiagnose\b|\bexamine\b"),
    demand(A, "pros adva stre swot trad root impl weak comp tren patt insi conc weig agai iden", r"\bpros and cons\b|\bweigh\w* up\b|\b(?:arguments )?for and against\b|\bwhat conclusions\b|\bidentify\b.{0,15}\b(?:weakness(?:es)?|flaws?|problems?|risks?|issues|causes?|strengths)\b|\badvantages and (?:the )?disadvantages\b|\bstrengths and (?:the )?weaknesses\b|\bswot\b|\btrade-?offs?\b|\broot cause of\b|\bhow (?:does|did|do (?!i\b|you\b|we\b))\b.{0,60}\bcompare\b|\bwhat (?:trends|patterns|insights|conclusions)\b|\bimplications of\b|\bcomparison (?:of|between)\b", firm=True),
    demand(A, "anal bewe beur verg unte inte begu eval", r"\banalysier\w*|^(?:eine )?analyse (?:der|des|von|zu)\b|\b(?:erstelle|schreibe?|mache?|gib)\b.{0,30}\b(?:analyse|bewertung|gegenüberstellung)\b|\bbewerte\w*|\bbeurteile\w*|\bvergleich(?:e|en)\b|\buntersuche\b|\binterpretier\w*|\bbegutachte\w*|\bevaluiere\w*"),
    demand(A, "vor- vort vor stär", r"\bvor-?(?:teile)? und nachteile\b|\bvor- und nachteile\b|\bstärken und schwächen\b|\bunterschiede zwischen\b", firm=True),
    demand(A, "anal éval eval comp exam inte crit apré", r"\banalys(?:e|er|ez|ons)\b|\b[ée]valu(?:e|er|ez)\b|\bcompar(?:e|er|ez|a|ar|ad|aison)\b|\bexamine\w*|\binterpr[èe]te\w*|\bcritique (?:ce|cette|le|la)\b"),
    demand(A, "avan poin vent pros vant prós pro voor wady zale", r"\bavantages et (?:les )?inconv[ée]nients\b|\bpoints forts\b|\bventajas y (?:las )?desventajas\b|\bpros y contras\b|\bvantagens e (?:as )?desvantagens\b|\bpr[óo]s e contras\b|\bvantaggi e (?:gli )?svantaggi\b|\bpro e (?:i )?contro\b|\bvoor- en nadelen\b|\bwady i zalety\b|\bzalety i wady\b", firm=True),
    demand(A, "anal anál eval evalú exam comp inte valu conf esam aval", r"\banal[iy]z(?:a|ar|e|za|zare|ad)\b|\ban[áa]lisis (?:de|del)\b|\bun[’\' ]?\s?analisi\b|\ban[áa]lise (?:d|este|esta|o|os|as|a)|\banalisi (?:di|del)\b|\beval[úu]a\w*|\bexamina\w*|\binterpreta\w*|\bvalut(?:a|are|i)\b|\bconfront(?:a|are)\b|\besamina\w*|\bavali(?:e|ar|a)\b|\bcompar[ae]\b"),
    demand(A, "anal beoo eval verg onde", r"\banalyseer\w*|\bbeoordeel\w*|\bevalueer\w*|\bvergelijk\w*|\bonderzoek (?:de|het|dit|deze)\b"),
    demand(A, "prze anal oceń poró zana", r"\b(?:prze|za)?analizuj\w*|\banaliza\b|\boceń\w*|\bporównaj\w*"),
    demand(A, "прои проа анал оцен срав плюс преи сопо дост", r"\bпроанализир\w*|^анализ\b|\b(?:сделай|проведи|напиши|дай)\b.{0,20}\bанализ\w*|\bоцени\w*|\bсравни\w*|\bсопостав\w*|\bплюсы и минусы\b|\bпреимуществ\w+ и недостат\w+|\bдостоинств\w+ и недостат\w+", firm=True),
    demand(A, "anal jämf samm kars incel değe", r"\banalysera\w*|\bjämför\w*|\banalyser (?:denne|dette|den|det)\b|\bkarşılaştır\w*|\banaliz et\w*|\bdeğerlendir\w*"),
)  # fmt: skip

#: Scripts without spaces: parts that ask for a task, in the order in which they count.
UNSPACED_TABLE: tuple[tuple[Task, re.Pattern[str]], ...] = (
    (C, re.compile(r"分类|分類|归类|歸類|情感(?:分析|倾向|判断)|(?:正面|积极|肯定的?).{0,4}还是|属于哪|是(?:不是)?垃圾|只回答|判断.{0,20}(?:是否|正面|负面|类别|情感|垃圾)|カテゴリ|ポジティブか|感情(?:分析|を判定)|判定して|肯定的か|분류|카테고리|긍정.{0,10}부정|감정 ?분석")),
    (E, re.compile(r"提取|抽取|抽出|抜き出|取り出|摘出|추출|뽑아|(?:找出|列出).{0,12}(?:所有|全部|每).{0,20}|(?:すべて|全て|全部).{0,12}(?:名前|日付|住所|人名|数字|会社).{0,10}(?:挙げ|リスト|出し)|(?:모든|전부).{0,8}(?:이름|날짜|주소|전화)")),
    (S, re.compile(r"总结|總結|概括|摘要|归纳|概述|要約|まとめ(?:て|る|を)|要点を|요약|정리해")),
    (A, re.compile(r"分析|评估|評估|比较|比較|对比|對比|优缺点|優缺點|利弊|评价|評価して|評価し|长短处|長所と短所|メリットとデメリット|考察して|분석|평가|비교|장단점")),
)  # fmt: skip
#: Questions about a thing, and texts to be written about it.
UNSPACED_ABOUT = re.compile(
    r"^(?:什么是|什麼是|怎么|怎麼|如何|为什么|解释|請解釋|请解释|介绍一下|写一(?:个|篇|首)|翻译|なぜ|どうやって)|是什么意思|是什么[？?]?$"
    r"|とは(?:何|なん|どう)?|方法を(?:教え|説明)|방법을 (?:알려|설명)|について説明|を説明して|の書き方|翻訳して|(?:뭐|무엇|뭔가)(?:야|예요|인가|입니까)?|어떻게|설명해|번역해"
)
UNSPACED_GIVEN = re.compile(r"以下|这(?:段|篇|个|句|些|条|封)|下面|上述|この|以下の|次の|下記|(?:^|\s)이 |다음|아래")

#: What begins a question about a thing, a demand to explain it, or a text to be written.
ABOUT = re.compile(
    r"^(?:so |and |but |ok(?:ay)?,? |hi,? |hello,? |hey,? |please |bitte |can you |could you |would you )*(?:"
    r"what(?:'s| is| are| does| do| was| were| would)\b|how (?:do|does|can|to|should|would|is|are|did|could)\b|why\b|who\b"
    r"|when\b|where\b|explain\b|define\b|describe (?:what|how)\b|tell me (?:about|what|how)\b|teach me\b|is there\b"
    r"|are there\b|do you\b|does\b|should i\b|(?:give me |show me )?(?:an? )?(?:example|definition|difference|meaning)\b"
    r"|translate\b|i (?:am|was|have been|'m) (?:learning|reading|wondering|studying)\b|what's\b"
    r"|(?:write|create|compose|generate|tell|draft|make|implement|build|code)(?: me)?(?: an?| the| some)?"
    r"(?: \w+){0,2} (?:story|poem|song|novel|haiku|joke|essay|function|script|program|code|class|email|letter|blog|app"
    r"|regex|query|tool|dialogue|speech|tweet|screenplay|sql|unit tests?)\b"
    r"|was (?:ist|sind|bedeutet|heißt|macht|meint)\b|wie (?:kann|mach\w*|funktionier\w*|erstell\w*|geht|berechne|schreib\w*|extrah\w*|analys\w*|vergleich\w*|klassif\w*|soll\w*|würde\w*)\b"
    r"|erklär\w*\b|warum\b|wer\b|wann\b|wo\b|wie \w+ (?:ich|man|wir)\b|übersetz\w*\b|schreib\w*(?: mir)? (?:ein\w*|das|den|die) (?:\w+ ){0,2}(?:geschichte|gedicht|lied|roman|witz|funktion|skript|programm|e-?mail|brief|aufsatz)\b"
    r"|qu'est-ce\b|que (?:signifie|veut)\b|c'est quoi\b|comment\b|explique\w*\b|pourquoi\b|tradui\w+\b|[ée]cri\w+(?:-moi)? une? (?:\w+ ){0,2}(?:histoire|po[èe]me|chanson|fonction|script|lettre|e-?mail)\b"
    r"|¿?qu[ée] (?:es|son|significa|quiere)\b|¿?c[óo]mo\b|expl[íi]ca\w*\b|¿?por ?qu[ée]\b|traduce\b|traduz\w*\b|escrib\w+ un[ao]? (?:\w+ ){0,2}(?:historia|poema|cuento|canci[óo]n|funci[óo]n|carta)\b"
    r"|(?:che )?cos'?(?:è|a è|a sono|a significa)\b|come (?:si|posso|faccio|funziona)\b|spiega\w*\b|perch[ée]\b|traduci\b|scrivi(?:mi)? un[ao']? ?(?:\w+ ){0,2}(?:storia|poesia|canzone|funzione|lettera)\b"
    r"|o que (?:é|são|significa)\b|como (?:se|posso|fa[çc]o|funciona|é)\b|escreva um[a]? (?:\w+ ){0,2}(?:hist[óo]ria|poema|conto|fun[çc][ãa]o|carta)\b"
    r"|wat (?:is|zijn|betekent|doet)\b|hoe\b|leg\b.{0,30}\buit\b|waarom\b|vertaal\b|schrijf een (?:\w+ ){0,2}(?:verhaal|gedicht|lied|functie|brief)\b"
    r"|co (?:to|oznacza|znaczy)\b|jak (?:się|mogę|zrobić|działa|napisać|\w+ć)\b|wyjaśnij\b|dlaczego\b|przetłumacz\b|napisz (?:\w+ ){0,2}(?:opowiadanie|wiersz|piosenkę|funkcję|list)\b"
    r"|что (?:такое|значит|означает)\b|как (?:мне|можно|сделать|работает|\w+(?:ть|чь))\b|объясни\w*\b|почему\b|переведи\w*\b|напиши\w* (?:\w+ ){0,2}(?:рассказ|стих\w*|песню|функцию|письмо|историю|сказку)\b"
    r"|vad (?:är|betyder)\b|hur\b|hvad\b|hvordan\b|nedir\b|nasıl\b)"
)  # fmt: skip
POINTS = re.compile(r"\b" + GIVEN.replace("|my|our|his|her|their", "") + r"\b")
#: What is to be done to a text, whatever the text says: the material comes at once.
REWORK = re.compile(
    r"^(?:please |bitte |can you |could you |por favor,? )*(?:translate|proofread|rewrite|rephrase|paraphrase|continue"
    r"|(?:fix|correct|improve|check) (?:the |my )?(?:grammar|spelling|english|style)|übersetz\w*|korrigier\w*|tradui\w+"
    r"|corrige\w*|traduce|traduci|traduz\w*|vertaal|przetłumacz|переведи\w*|исправь\w*)\b"
)
#: How a demand may be put that is none: a word in quotation marks, or the name of a thing.
MENTION = re.compile(
    r"[\"'“”«»„`][^\"'“”«»„`]{1,40}[\"'“”«»„`]|\b(?:word|term|verb|button|command|function|method|column) \w+"
)
#: What ends a clause, and what ends a word.
CLAUSE_ENDS = str.maketrans(dict.fromkeys(".!?;。！？；", "\n"))
WORD_BREAKS = str.maketrans(dict.fromkeys("¿¡.,;:!?()[]{}\"'“”«»„`*#>-\n\t/", " "))
BY_STEM: dict[str, tuple[int, ...]] = {}
for number, line in enumerate(TABLE):
    for stem in line.stems:
        BY_STEM[stem[:4]] = (*BY_STEM.get(stem[:4], ()), number)
STEMS = frozenset(BY_STEM)


def window(instruction: str) -> str:
    """The beginning and the end of an instruction, in lower case."""
    text = instruction if len(instruction) <= HEAD + TAIL else f"{instruction[:HEAD]}\n{instruction[-TAIL:]}"
    return text.lower().replace("tl;dr", "tldr")


def asked_for(instruction: str) -> Task | None:
    """The task that an instruction asks for; None where it is a conversation, or a text to be written."""
    text = window(instruction)
    unspaced = not text.isascii() and max(text) > UNSPACED
    lines = candidates(text)
    if not lines and not unspaced:
        return None
    if REWORK.match(text):
        return None
    for clause in ends(text):
        task = spaced_task(clause, lines) if lines else None
        if task is None and unspaced:
            task = unspaced_task(clause)
        if task is not None:
            return task
    return None


def candidates(text: str) -> list[int]:
    """The lines of the table one of whose stems begins a word of the text, in the table's order."""
    heads = {word[:4] for word in set(text.translate(WORD_BREAKS).split())}
    return sorted({number for stem in STEMS & heads for number in BY_STEM[stem]})


def ends(text: str) -> list[str]:
    """The first and the last clauses, the outer ones first: what is in the middle is material."""
    parts = text.translate(CLAUSE_ENDS).replace(": ", "\n").split("\n")
    clauses = [one for part in parts if (one := part.strip(TRIMMED))]
    if len(clauses) <= FIRST + LAST:
        return clauses
    return list(dict.fromkeys((clauses[0], clauses[-1], *clauses[1:FIRST], *clauses[-LAST:-1])))


def spaced_task(clause: str, lines: list[int]) -> Task | None:
    """The task that one clause asks for: of several the one that is named first, save that those on top go before."""
    best: tuple[int, Task] | None = None
    about: bool | None = None
    for number in lines:
        task, _, pattern, firm = TABLE[number]
        found = pattern.search(clause)
        if found is None:
            continue
        if about is None:
            about = ABOUT.match(clause) is not None
            if about and MENTION.search(clause):
                return None
        if about and not firm and not POINTS.search(clause):
            continue
        if number < SURE:
            return task
        if best is None or found.start() < best[0]:
            best = found.start(), task
    return best[1] if best else None


def unspaced_task(clause: str) -> Task | None:
    """The same in a script that is written without spaces."""
    if UNSPACED_ABOUT.search(clause) and not UNSPACED_GIVEN.search(clause):
        return None
    return next((task for task, pattern in UNSPACED_TABLE if pattern.search(clause)), None)
