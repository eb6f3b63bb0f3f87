"""The function words of each language that has a stemmer: they tell the language of a text and say little in a query.

Only words that are short of a meaning of their own and frequent; none of another language's that means something there.
"""

from __future__ import annotations

from functools import cache

# question words too: they say nothing about the page that answers
_WORDS = {
    "en": """a an the of in on at by for from to with and or but is are was were be been being do does did done has
        have had it its this that these those as into than then there their they he she his her we you
        your i me my our us them what which who whom whose when where why how""",
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber ist sind war waren wird werden
        wurde wurden hat haben hatte von vom zu zum zur mit bei auf aus für an am im in nicht auch sich
        als wie es er sie wir ihr ihre ihren ich man nach über um durch so nur noch dass daß was wer wem
        wen wo wann warum welche welcher welches welchen wieviel""",
    "fr": """le la les un une des du de et ou mais est sont était étaient être été a ont avait par pour dans sur avec
        en au aux ce cette ces cet qui que quoi dont où il elle ils elles on nous vous je se sa son ses
        leur leurs ne pas plus quel quelle quels quelles comment quand pourquoi combien""",
    "es": """el la los las un una unos unas de del al y o pero es son era eran fue fueron ser ha han había por para en
        con sin sobre como más se su sus lo le les que qué quién quiénes cuál cuáles cuándo dónde cómo
        cuánto cuántos cuántas este esta estos estas ese esa no""",
    "pt": """o a os as um uma uns umas de do da dos das no na nos nas e ou mas é são era eram foi foram ser tem têm
        por para em com sem sobre como mais se seu sua seus suas que quem qual quais quando onde ao à aos
        às pelo pela não este esta quanto quantos""",
    "it": """il lo la i gli le un uno una di del della dei degli delle dello da dal dalla e o ma è sono era erano fu
        essere ha hanno in nel nella nei con per su sul sulla come più si suo sua che chi cui quale quali
        quando dove perché quanto quanti non al alla ai questo questa""",
    "nl": """de het een en of maar is zijn was waren wordt worden werd werden heeft hebben had van voor met op in aan
        bij uit door naar over tot als dan die dat deze dit niet ook zich er hij zij ze wij je wie wat
        waar wanneer waarom welke hoe hoeveel""",
    "sv": """den det de en ett och eller men är var vara blev har hade av för med på i till från om som att inte också
        sig han hon vi ni jag man detta dessa vad vem vilka vilken vilket när hur varför""",
    "da": """den det de en et og eller men er var være blev har havde af for med på i til fra om som at ikke også sig
        han hun vi jeg man dette disse hvad hvem hvilke hvilken hvilket hvornår hvor hvordan hvorfor""",
    "no": """den det de en et ei og eller men er var være ble har hadde av for med på i til fra om som at ikke også
        seg han hun vi jeg man dette disse hva hvem hvilke hvilken hvilket når hvor hvordan hvorfor""",
    "fi": """ja tai mutta on ovat oli olivat olla ei eivät että joka jotka jossa kun kuin myös se ne hän he sen niiden
        tämä nämä mikä mitä mitkä kuka ketkä missä milloin miksi miten kuinka""",
    "hu": """a az egy és vagy de van volt voltak lesz nem is hogy ami aki amely mint csak már még ez ezek azok ő ők mi
        ki kik mikor hol miért hogyan melyik mennyi hány""",
    "pl": """i oraz lub ale jest są był była było były być w we na z ze do od za po przez dla o u przy nie się że jak
        to ten ta te tego tej który która które których co kto gdzie kiedy dlaczego jaki jaka jakie ile""",
    "cs": """a i nebo ale je jsou byl byla bylo byli být v ve na z ze do od za po pro o u při ne se si že jak to ten
        ta tento tato který která které co kdo kde kdy proč jaký jaká jaké kolik""",
    "ro": """și sau dar este sunt era erau fost fi a au al ai ale un o unui unei de la din în pe cu pentru prin după
        ca că să se nu mai care ce cine unde când cum cât câți câte cel cea cei lui său sa""",
    "tr": """ve veya ama bir bu şu o da de ki mi mı mu mü ile için gibi daha çok en olan olarak değil ne kim kimin
        hangi nerede nereden zaman neden niçin nasıl kaç kadar sonra vardır""",
    "ca": """el la els les un una uns unes de del dels al als i o però és són era eren va van ser ha han per en amb
        sense com més es seu seva que què qui quin quina quins quines quan on aquest aquesta no""",
    "id": """dan atau tetapi adalah ialah di ke dari pada untuk dengan yang ini itu tidak juga oleh dalam sebagai akan
        telah sudah mereka dia ia apa siapa mana kapan mengapa bagaimana berapa""",
    "vi": """và hoặc nhưng là của được có cho trong với từ các những một này đó không cũng bởi theo như khi đã sẽ ở
        tại vào ra ai gì nào đâu sao bao nhiêu thế""",
    "et": """ja või aga on oli olid olla ei et kes mis mida kus millal miks kuidas see need tema nende ka kui
        nagu oma""",
    "lt": """ir ar bet yra buvo būti ne kad kas ką kur kada kodėl kaip tai šis ši jo jos jų iš su į per po nuo taip
        pat""",
    "eu": """eta edo baina da dira zen ziren du dute ez ere bat hau hori zer nor non noiz zergatik nola zein""",
    "ga": """agus nó ach is tá bhí an na ar ag le do de i sa go ní a cad cé cathain conas""",
    "hy": """և կամ բայց է են էր էին մի այս այդ որ ում ինչ որտեղ երբ ինչու ինչպես""",
    "ru": """и или но а не на в во с со к ко о об от до из за по у при для что как это этот эта эти был была было были
        быть его её их он она они мы вы я который которая которые которых кто где когда почему какой
        какая какие каком сколько чем же бы ли также""",
    "uk": """і й та або але не на в у з зі із до від за по при для що як це цей ця ці був була було були бути його її
        їх він вона вони ми ви який яка які яких хто де коли чому скільки також""",
    "bg": """и или но не на в във с със към от до за по при че как това този тази тези е са беше бяха да се си ще
        който която които какво кой кога къде защо колко""",
    "sr": """и или али не на у с са к о од до из за по при да што како ово овај ова је су био била било били се који
        која које ко где када зашто колико i ili ali na u od do iz za da što kako je su bio bila bilo
        bili se koji koja koje ko tko gdje gde kada zašto koliko""",
    "el": """ο η το οι τα του της των τον την τους τις ένα μια ένας και ή αλλά είναι ήταν να θα με σε για από στο στη
        στην στον στα στις που πού ποιος ποια ποιο ποιοι ποιες τι πότε πως πώς γιατί πόσο πόσοι πόσες δεν
        ως""",
    "ar": """في من على إلى عن مع و أو أن إن كان كانت هو هي هم هذا هذه ذلك تلك التي الذي الذين لا لم لن قد ما ماذا متى
        أين كيف لماذا كم هل أي بين بعد قبل كل""",
    "fa": """و یا در از به که را با این آن است بود بودند شد می برای تا بر هم نیز خود چه چرا کجا چگونه چند کدام کی""",
    "hi": """का की के में है हैं था थी थे और या से को पर ने कि यह वह ये वे इस उस एक भी नहीं तो ही जो क्या कौन कब कहाँ
        कहां क्यों कैसे किस किसने कितने कितनी लिए द्वारा""",
    "ne": """को का की मा छ छन् थियो थिए र वा बाट लाई ले यो त्यो एक पनि छैन के कुन कहिले कहाँ किन कसरी कति""",
    "ta": """மற்றும் அல்லது ஒரு இந்த அந்த இது அது என்று என ஆகும் உள்ள என்ன யார் எங்கே எப்போது ஏன் எப்படி எத்தனை""",
    "yi": """און אָדער אָבער איז זענען געווען די דער דאָס אַ אין פון צו מיט אויף וואָס ווער וווּ ווען פאַרוואָס ווי""",
    "he": """של את על עם לא הוא היא הם זה זאת או גם כי אם אך היה הייתה היו מה מי איפה מתי למה איך כמה איזה אל בין""",
}


@cache
def function_words(language: str) -> frozenset[str]:
    """In lower case, as they are written; none for a language that is not known."""
    return frozenset(_WORDS.get(language, "").split())


def languages() -> tuple[str, ...]:
    """ISO 639-1 codes of the languages whose function words are known."""
    return tuple(_WORDS)
