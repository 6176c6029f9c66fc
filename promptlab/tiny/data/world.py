"""A small world of public-health English: words by facet and class, and sentences made of them.

A sentence has several facets (who, which symptom, where, after what, since when). A label map ties the classes of *one*
facet to labels; which facet, and which label goes with which class, is new in every document.
"""

from __future__ import annotations

from random import Random

_LISTS = {
    "symptom": {
        "lung": "cough,wheeze,sneezing,hoarse voice,short breath,tight chest,phlegm,runny nose,sore throat,croup,"
        "noisy breathing,blocked nose",
        "gut": "vomiting,loose stool,cramps,nausea,bloating,belly pain,diarrhoea,heartburn,poor appetite,watery stool,"
        "stomach ache,hiccups",
        "skin": "rash,itching,blisters,hives,sores,scabs,boils,peeling,redness,swelling,dry patches,pale spots",
        "head": "headache,dizziness,blurred sight,ear ache,fainting,confusion,ringing ears,double sight,migraine,"
        "memory loss,light spells,slurred speech",
        "joint": "knee pain,back ache,stiff neck,limping,sore wrist,weak legs,hip pain,muscle ache,swollen ankle,"
        "shoulder pain,cramped calf,bent fingers",
        "heat": "fever,chills,sweating,shivering,hot skin,night sweats,flushing,high temperature,thirst,dry mouth,"
        "heat stroke,sunburn",
    },
    "person": {
        "child": "boy,girl,infant,toddler,pupil,newborn,schoolboy,twin,baby,teenager",
        "worker": "farmer,teacher,driver,nurse,baker,miner,fisher,guard,cook,tailor",
        "elder": "grandmother,grandfather,widow,pensioner,old man,old woman,retired clerk,village elder,aunt,uncle",
        "traveller": "tourist,trader,pilgrim,sailor,student,soldier,nomad,visitor,refugee,migrant",
    },
    "place": {
        "school": "classroom,nursery,playground,dormitory,library,canteen,gym,schoolyard",
        "market": "stall,shop,bazaar,warehouse,bakery,butcher,kiosk,arcade",
        "shore": "harbour,river bank,canal,pond,dam,beach,ferry,lagoon",
        "farm": "barn,field,orchard,stable,dairy,mill,pasture,henhouse",
        "ward": "clinic,surgery,hospice,pharmacy,laboratory,maternity room,waiting room,hospital",
        "home": "kitchen,yard,bedroom,cellar,porch,attic,garage,hut",
    },
    "exposure": {
        "water": "well water,tap water,river water,rain water,ice,pond water,a flooded cellar,a leaking pipe",
        "food": "raw fish,cold rice,fresh milk,undercooked meat,eggs,street food,old cheese,wild mushrooms",
        "insect": "mosquito bites,a tick bite,flea bites,sand flies,a wasp sting,bed bugs,lice,midges",
        "animal": "a dog bite,goats,a bat,rats,poultry,a stray cat,cattle,camels",
        "smoke": "smoke,dust,paint fumes,ash,a gas leak,bleach,diesel fumes,mould",
    },
    "time": {
        "past": "last week,last month,a week ago,long ago,last year,in the spring,last winter,some weeks ago",
        "recent": "today,since morning,this evening,an hour ago,since noon,just now,tonight,since dawn",
        "repeated": "every day,each night,every week,on and off,again and again,each morning,most days,daily",
    },
}
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    facet: {name: tuple(words.split(",")) for name, words in classes.items()} for facet, classes in _LISTS.items()
}
TEMPLATES = (
    "{person} with {symptom}, seen at the {place}, {time}",
    "{symptom} in a {person} after {exposure}",
    "the {person} reports {symptom} {time}",
    "{time}: {person} at the {place}, {symptom}",
    "{symptom} and {symptom2} in a {person} from the {place}",
    "after {exposure} the {person} has {symptom}",
    "{person}, {place}, {symptom}, {exposure}",
    "{symptom} {time} after {exposure}, {person}",
    "a {person} from the {place} came with {symptom} and {symptom2} {time}",
    "case note: {symptom}, contact with {exposure} at the {place}",
    "{person} has {symptom}; {exposure} {time}",
    "at the {place} a {person} was near {exposure} and now has {symptom}",
)


def sentence(
    rng: Random, wanted: dict[str, str], template: str | None = None, narrow: tuple[str, ...] | None = None
) -> str:
    """One sentence whose facets are of the wanted classes, the others of any; it always shows the wanted facets.

    With `narrow`, the words of a wanted facet are taken from these only, which should be of its class.
    """
    fitting = [t for t in TEMPLATES if all("{" + facet + "}" in t for facet in wanted)]
    template = template or rng.choice(fitting)
    words = {}
    for facet, classes in WORDS.items():
        chosen = wanted.get(facet) or rng.choice(list(classes))
        options = narrow if narrow and facet in wanted else classes[chosen]
        words[facet] = rng.choice(options)
        if facet == "symptom":
            words["symptom2"] = rng.choice([w for w in options if w != words[facet]] or classes[chosen])
    return template.format(**words)


COMMON_WORDS = (
    "the of and to in is that it was for on are as with his they at be this have from or one had by word but not what"
    " all were we when your can said there use an each which she do how their if will up other about out many then"
    " them these so some her would make like him into time has look two more write go see number no way could people"
    " my than first water been call who its now find long down day did get come made may part over new after only"
    " little work know place year live me back give most very our just name good great think say help low line turn"
    " cause much mean before move right too old any same tell does set three want air well also play small end put"
    " home read hand large patient patients study treatment effect disease health clinical risk group increase results"
    " between during using compared should I am experiencing feel symptoms severe blood pressure body pain"
).split()
