"""Words that are judged by themselves: what adds nothing, what takes back, what belongs to a name."""

from __future__ import annotations

SILENT = frozenset({"a", "an", "the", "of", "and"})
TITLES = frozenset(
    "dr mr mrs ms miss sir dame lord lady prof professor president king queen emperor empress prince princess pope "
    "general captain mount saint madame monsieur frau herr baron count duke earl rabbi imam sheikh chancellor senator "
    "governor mayor bishop cardinal colonel lieutenant major admiral marshal coach".split()
)
SUFFIXES = frozenset(
    "jr sr phd fc afc cf sc inc ltd co corp corporation company gmbh plc llc ag sa spa nv bv oy ab".split()
)
FILLERS = frozenset(
    "is are was were be been it its this that these those in on at to by from with as for into answer final i "
    "think believe guess probably likely maybe perhaps possibly about around approximately called named known "
    "name shown seen pictured depicted located found situated stands standing stood lies picture image photo "
    "photograph scene here there he she they has have had which who whose what where when city town country place "
    "thing one so therefore appears seems must should would hence thus my your s year designed built painted made "
    "written created architect artist born opened most very exactly roughly total following correct option choice "
    "speak speaks spoken use uses used show shows contains contain include includes consists bottle glass cup "
    "pair flock herd group piece slice bunch bowl plate kind type sort species breed work title did does do "
    "nearly almost circa approx".split()
)
HEDGES = frozenset(
    "unlikely doubt doubtful hardly improbable false wrong incorrect not no never nor or either neither but "
    "unlike rather instead except without isn't isnt wasn't wasnt aren't arent don't dont doesn't doesnt can't "
    "cannot far near nearby outside like similar unknown unclear versus vs any next beside behind than resembles "
    "despite although however actually wait sorry oder aber nicht kein keine ou mais pas pero sino ma ne или не "
    "но 不 或".split()
)
"""A word of these beside a name takes the name back, puts another one beside it, or means something that is near it."""
TAKES_BACK = frozenset(
    "unlikely doubt doubtful false wrong incorrect not no never nor or either neither but however actually wait "
    "sorry maybe perhaps possibly alternatively rather instead although though otherwise correction oder aber "
    "nicht vielleicht sondern ou mais pas pero sino quizás или но не some others sources debated disputed "
    "uncertain unsure unclear".split()
)
"""A word of these in what follows an answer means that the answer may not be meant."""
RELATIONS = frozenset(
    "owner wife husband son daughter father mother brother sister friend pupil student teacher neighbour neighbor "
    "rival assistant predecessor successor ancestor descendant colleague partner opponent competitor mentor".split()
)
"""Who stands behind such a word is not who is asked for."""
COMMON_WORDS = frozenset(
    "black white red blue green yellow brown grey golden silver dark light wall broad high main long big small "
    "great little grand royal national central north south east west new old first second third hot cold ice sun "
    "moon star sky sea wood stone iron gold fire water dead wild lost king queen holy saint good bad happy open "
    "free clear sweet deep upper lower inner outer middle top north left right baby summer winter spring autumn "
    "modern fine liberal".split()
)
"""Alone, such a word is no name, whatever it begins."""
POSSIBLY = frozenset("possibly maybe perhaps probably likely".split())
NO_OPENERS = frozenset("with for from to into have has had as".split())
"""Small words after which a name is not what the sentence says."""
PLACE_WORDS = frozenset(
    "city town village country state island kingdom republic capital river lake mount flag name".split()
)
ARTICLES_ABROAD = frozenset("der die das den dem ein eine einen le la les un une el los las il lo gli o os as".split())
BREAKS = frozenset('.,;:!?()[]{}"“”«»/|-*\n。，、；：？！（）')
PREPOSITIONS = frozenset("to past from in on at by for with under over after before into".split())
PARTICLES = frozenset("van von de der den da di del della la le bin ibn al el dos du ten ter zu".split())
