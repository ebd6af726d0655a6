"""What an instruction asks for, in a dozen languages, with traps: the table was measured on sets it had not seen."""

import pytest

from routing.core.analysis import analyse
from routing.core.requests import Route

#: Prompts as people write them.
REALISTIC = """
can you summarise this pdf for me? I only have 2 minutes|summarization
Give me the main points of this transcript as bullets|summarization
ok so here's the thread from slack, can you boil it down to the decisions that were made|summarization
In one paragraph, what is this article about?|summarization
Provide an executive summary of the quarterly report|summarization
Write an abstract for the paper below|summarization
make this shorter please: we are very glad to announce|summarization
summary please|summarization
Explain this article to me in simple terms|chat
What happened in the French Revolution?|chat
give me an overview of the history of jazz|chat
Fass mir das mal in Stichpunkten zusammen|summarization
Schreibe eine kurze Zusammenfassung des folgenden Protokolls|summarization
Was steht in diesem Text? Bitte kurz zusammenfassen.|summarization
Peux-tu résumer ce document en 5 points ?|summarization
Donne-moi un résumé court de l'article|summarization
¿Puedes resumir este correo?|summarization
Necesito un resumen del informe|summarization
Puoi riassumere questo testo in tre punti?|summarization
Pode resumir este e-mail para mim?|summarization
Kun je dit artikel kort samenvatten?|summarization
Zrób krótkie podsumowanie tego tekstu|summarization
Перескажи кратко этот текст|summarization
帮我把这段话概括成一句话|summarization
この記事を3行でまとめて|summarization
이 기사를 세 줄로 요약해줘|summarization
Decide whether each of these tickets is a bug, a feature request or a question|classification
Tag each message with one of: billing, tech, other|classification
Is this review positive, negative or neutral? "The food was cold"|classification
Does the following text contain hate speech? Answer yes/no|classification
What's the intent of this user message: "cancel my order"?|classification
Determine the language of this sentence|classification
rate the sentiment from 1 to 5: I guess it's fine|classification
true or false: the earth is flat|classification
Sort these emails into folders: work, private, spam|classification
Which of the following categories fits best: sports, politics, tech?|classification
Bestimme die Stimmung des folgenden Kommentars: positiv, neutral oder negativ|classification
Ist das Spam oder nicht?|classification
Ordne diese Tickets den Kategorien Bug, Feature, Frage zu|classification
Ce message est-il du spam ? Réponds par oui ou non|classification
Catégorise ces dépenses|classification
¿Qué sentimiento expresa este tuit: positivo, negativo o neutro?|classification
Questo commento è positivo o negativo?|classification
Esse comentário é positivo ou negativo?|classification
Is deze mail spam? Antwoord met ja of nee|classification
Czy ta opinia jest pozytywna czy negatywna?|classification
Это спам или нет? Ответь да или нет|classification
К какой категории относится этот товар?|classification
把这些评论按情感分类|classification
次の文章を「肯定的」か「否定的」に分類して|classification
이 이메일이 스팸인지 분류해 줘|classification
Get me all phone numbers from this page|extraction
From the following job ad, extract title, salary and location as JSON|extraction
what dates are mentioned in the contract?|extraction
Identify all the people and companies in the article below|extraction
Parse this receipt and give me the total, date and vendor|extraction
find all urls in this text|extraction
Here is a resume. Return name, email and skills in JSON format.|extraction
Convert this invoice to JSON with fields number, date, total|extraction
Could you pull out the action items from these notes?|extraction
Suche alle E-Mail-Adressen aus dem Text heraus|extraction
Extrahiere Rechnungsnummer und Betrag|extraction
Welche Personen werden im Text genannt?|extraction
Relève toutes les dates dans ce document|extraction
Extrayez les noms des entreprises citées|extraction
Extrae todas las direcciones de correo del texto|extraction
Identifica todos los nombres de empresas en este artículo|extraction
Estrai tutti gli indirizzi email|extraction
Extraia as datas e valores deste contrato|extraction
Geef alle namen uit deze tekst|extraction
Wyciągnij z tekstu wszystkie nazwiska|extraction
Найди все имена и даты в тексте|extraction
找出文章中所有的公司名称|extraction
文中の人名をすべて抜き出してください|extraction
이 계약서에서 날짜와 금액을 뽑아줘|extraction
Why did our conversion rate drop last week? Here are the numbers, please investigate|analysis
Compare the iPhone 15 with the Pixel 8|analysis
Do a code review of the function below|analysis
What are the strengths and weaknesses of this essay?|analysis
Give me a detailed analysis of the poem|analysis
Critique my business plan|analysis
which is better for a startup, postgres or mongo? weigh the trade-offs|analysis
Evaluate this candidate against the job description|analysis
Interpret the following regression output|analysis
Analysiere dieses Gedicht und erkläre die Stilmittel|analysis
Vergleiche die beiden Angebote und gib eine Empfehlung|analysis
Beurteile, ob dieser Vertrag fair ist|analysis
Compare ces deux contrats|analysis
Évalue la qualité de ce code|analysis
Compara estas dos propuestas|analysis
Evalúa los riesgos de este proyecto|analysis
Confronta queste due offerte|analysis
Quais são as vantagens e desvantagens do trabalho remoto?|analysis
Wat zijn de voor- en nadelen van zonnepanelen?|analysis
Porównaj te dwie oferty|analysis
Оцени сильные и слабые стороны этого плана|analysis
比较一下这两种方案的优缺点|analysis
この二つの提案を比較して評価してください|analysis
두 제안의 장단점을 비교해줘|analysis
write me an email declining the meeting|chat
what's a good name for a cat?|chat
how can I summarize data in pandas?|chat
Fix this bug: TypeError: undefined is not a function|chat
Write a regex that extracts emails|chat
Write unit tests for the class below|chat
what is the difference between a class and an object?|chat
Explain the abstract factory pattern|chat
I feel sad today|chat
What are positive and negative numbers?|chat
How is sentiment measured in economics?|chat
Can you recommend a comparison website?|chat
Was ist der Unterschied zwischen Klasse und Objekt?|chat
Wie schreibe ich eine gute Zusammenfassung?|chat
Comment résumer un livre efficacement ?|chat
¿Qué es el análisis de sangre?|chat
Come si fa la pizza?|chat
Como extrair um arquivo zip?|chat
Hoe vergelijk ik twee lijsten in Python?|chat
Jak podsumować kolumnę w Excelu?|chat
Что такое классификация?|chat
怎么提取压缩文件？|chat
分析とは何ですか？|chat
요약이 뭐야?|chat
"""
#: More of them, written after the first were read.
MORE = """
What does this contract say, in short?|summarization
Please provide a concise recap of today's standup notes|summarization
Distill the following into three bullet points|summarization
too long, give me the short version of this post|summarization
Bitte kürze diesen Absatz auf die Hälfte|summarization
Résumez-moi cet e-mail|summarization
Hazme un resumen breve de esta noticia|summarization
Mi fai un riassunto di questo capitolo?|summarization
Сделай выжимку из этой статьи|summarization
用三句话总结这篇文章|summarization
Mark each line as OK or ERROR|classification
Is the tone of this message formal or informal?|classification
Output only the label: ham or spam|classification
Choose one of the categories A, B or C for this text|classification
What genre is this book description?|classification
Which topic does this question belong to?|classification
Ist die folgende Aussage wahr oder falsch?|classification
Indique si ce tweet est ironique ou non|classification
Indica si este comentario es ofensivo o no|classification
Определи язык текста|classification
对下面的新闻进行分类|classification
List the ingredients in this recipe|extraction
who are the parties in this agreement? list their names|extraction
Read the email and give me the sender's phone number and address|extraction
Extract a table of products and prices from the following page|extraction
Gib mir alle Beträge aus dieser Rechnung|extraction
Zieh bitte die Kontaktdaten aus dieser Signatur heraus|extraction
Donne la liste de tous les montants de la facture|extraction
¿Qué fechas se mencionan en el texto?|extraction
Quali nomi sono menzionati in questo articolo?|extraction
Выдели все даты и суммы из договора|extraction
列出文中提到的所有地点|extraction
Weigh up the arguments for and against nuclear power|analysis
What conclusions can be drawn from this data?|analysis
Assess the impact of inflation on wages|analysis
Examine the causes of the First World War|analysis
Identify weaknesses in this argument|analysis
Untersuche die Ursachen des Fehlers in diesem Log|analysis
Analyse critique de ce texte|analysis
Haz un análisis de este poema|analysis
Fai un'analisi di questo bilancio|analysis
Przeanalizuj poniższy kod|analysis
Сделай анализ этих данных|analysis
对比一下 MySQL 和 PostgreSQL|analysis
Good morning!|chat
how do i list all files in a directory in bash|chat
write a python script that extracts text from pdfs|chat
Tell me about sentiment in poetry|chat
What's a summary statistic?|chat
compose a tweet about our new product|chat
my code doesn't compile, help|chat
Wie sortiere ich E-Mails in Outlook?|chat
Qu'est-ce qu'un résumé ?|chat
¿Cómo se escribe un buen resumen?|chat
Напиши письмо клиенту|chat
帮我写一封邮件|chat
"""
#: And others.
OTHERS = """
Can you give me a one-sentence summary?|summarization
What is the main idea of the following passage?|summarization
Reduce this text to its essentials|summarization
Fassen Sie bitte das Gespräch zusammen|summarization
Pouvez-vous synthétiser ce rapport ?|summarization
Sintetiza este documento|summarization
Podsumuj najważniejsze punkty|summarization
Краткое содержание книги|summarization
Detect spam in this message: win a prize|classification
Label: positive or negative? I hated every minute.|classification
Is it a question or a statement? "Where are you"|classification
Please classify the intent: I want my money back|classification
Kategorisiere die folgenden Ausgaben|classification
¿Es positivo o negativo este comentario?|classification
Cette phrase est-elle positive ou négative ?|classification
Zaklasyfikuj ten e-mail jako spam lub nie spam|classification
Extract the key facts|extraction
Give me a list of all dates in this document|extraction
Turn this text into JSON with name and age|extraction
Which companies are named in this press release?|extraction
Filtere alle Telefonnummern heraus|extraction
Trouve les numéros de téléphone dans ce message|extraction
Encuentra todas las fechas en el documento|extraction
Compare and contrast cats and dogs|analysis
Analyse the following log and find the root cause|analysis
How do React and Vue compare?|analysis
Bewerte die Vor- und Nachteile|analysis
Analysez les résultats suivants|analysis
Valuta questa proposta|analysis
Oceń ten esej|analysis
who won the world cup in 2014|chat
help me plan my birthday party|chat
rewrite this sentence to be more polite: give me the report|chat
Proofread my text|chat
continue this story: it was a dark night|chat
What time is it in Tokyo?|chat
Mach mir einen Trainingsplan|chat
Raconte-moi une blague|chat
Cuéntame un chiste|chat
讲个笑话|chat
"""


def rows(*texts):
    return [tuple(line.rsplit("|", 1)) for text in texts for line in text.strip().splitlines()]


def task(prompt):
    return analyse(Route.CHAT, {"model": "m", "messages": [{"role": "user", "content": prompt}]}).task.value


@pytest.mark.parametrize(("prompt", "wanted"), rows(REALISTIC, MORE, OTHERS))
def test_the_task_is_read_from_the_wording(prompt, wanted):
    """What people ask for is told from what they ask about."""
    assert task(prompt) == wanted


@pytest.mark.parametrize("wanted", ["Summarize the text above.", "Fasse das bitte zusammen.", "要約してください。"])
def test_an_instruction_may_stand_behind_its_material(wanted):
    """The end of a long prompt is read as its beginning is, and the middle is not."""
    material = "The committee met. " * 60 + "Extract the names. Compare them. " * 20 + "They went home. " * 60
    assert task(f"{material}\n\n{wanted}") == "summarization"
    assert task(material) == "chat"


def test_a_schema_with_one_choice_is_classification():
    """Where the wording says nothing, the form of the answer tells."""
    choice = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}}
    record = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    body = {"model": "m", "messages": [{"role": "user", "content": "Bo is 7"}]}
    assert analyse(Route.CHAT, body | {"format": choice}).task == "classification"
    assert analyse(Route.CHAT, body | {"format": record}).task == "extraction"


def test_a_follow_up_shares_its_beginning_with_what_came_before():
    """All leading parts of a conversation are those of the request before, and the system prompt is shared by many."""
    system = {"role": "system", "content": "You are kind."}
    first = [system, {"role": "user", "content": "Hello"}]
    second = [*first, {"role": "assistant", "content": "Hi!"}, {"role": "user", "content": "Bye"}]
    one, two = (analyse(Route.CHAT, {"model": "m", "messages": part}).prefixes for part in (first, second))
    other = analyse(Route.CHAT, {"model": "m", "messages": [system, {"role": "user", "content": "No"}]}).prefixes
    assert two[: len(one)] == one
    assert (other[0], other[1] != one[1]) == (one[0], True)


def test_a_long_conversation_keeps_its_last_parts():
    """However long it grows, the next request still finds the part where this one ended."""
    messages = [{"role": "user" if i % 2 else "assistant", "content": f"message {i}"} for i in range(60)]
    before = analyse(Route.CHAT, {"model": "m", "messages": messages[:50]}).prefixes
    after = analyse(Route.CHAT, {"model": "m", "messages": messages[:52]}).prefixes
    assert before[-1] in after
    assert len(after) <= 8


@pytest.mark.parametrize(
    ("prompt", "least", "most"), [("word " * 100, 100, 150), ("слово " * 100, 150, 300), ("水" * 100, 50, 100)]
)
def test_tokens_are_estimated_by_script(prompt, least, most):
    """Four characters make a token in English, fewer in Cyrillic, and hardly more than one in Chinese."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    assert least <= analyse(Route.CHAT, body).prompt_tokens <= most
