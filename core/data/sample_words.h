/* sample_words.h: the word lists behind the sample catalogue (sample.c). Words in `said` and `purpose` occur in queries only, never in a
 * document: a search engine that matches words cannot know them, a trained model can. */
#ifndef SEMINDEX_SAMPLE_WORDS_H
#define SEMINDEX_SAMPLE_WORDS_H

enum { DEPARTMENTS = 12, SHELVES = 6, SERIES = 14, FEATURES = 20, MATERIALS = 10, COLOURS = 10 };

struct sample_shelf { /* a subcategory; shelf i + 1 of a department is what people buy after shelf i */
    const char *name, *noun;    /* in documents: "Tents", "tent" */
    const char *said, *purpose; /* in queries: another word for the noun, and what it is for */
};
struct sample_department {
    const char *name;
    struct sample_shelf shelf[SHELVES];
};

static const struct sample_department sample_departments[DEPARTMENTS] = {
    {"Camping", {{"Tents", "tent", "shelter", "sleeping outdoors"}, {"Sleeping Bags", "sleeping bag", "bedroll", "cold nights outside"},
                 {"Camp Stoves", "stove", "burner", "cooking at a campsite"}, {"Cookware", "pot set", "pans", "outdoor meals"},
                 {"Lanterns", "lantern", "lamp", "lighting a camp"}, {"Coolers", "cooler", "icebox", "keeping drinks chilled"}}},
    {"Cycling", {{"Road Bikes", "road bike", "racer", "fast rides on tarmac"}, {"Bike Helmets", "helmet", "headgear", "protecting a rider"},
                 {"Bike Lights", "bike light", "beam", "riding after dark"}, {"Bike Locks", "lock", "chain", "stopping thieves"},
                 {"Bike Pumps", "pump", "inflator", "flat tyres"}, {"Cycling Jerseys", "jersey", "top", "sweaty climbs"}}},
    {"Kitchen", {{"Kettles", "kettle", "boiler", "hot water"}, {"Toasters", "toaster", "bread browner", "crisp slices"},
                 {"Blenders", "blender", "mixer", "smoothies"}, {"Knives", "chef knife", "blade", "chopping vegetables"},
                 {"Cutting Boards", "cutting board", "block", "slicing on a worktop"}, {"Storage Jars", "storage jar", "canister", "dry goods"}}},
    {"Office", {{"Desks", "desk", "workstation", "working at home"}, {"Office Chairs", "chair", "seat", "long hours sitting"},
                {"Monitor Arms", "monitor arm", "screen mount", "raising a display"}, {"Keyboards", "keyboard", "keypad", "typing"},
                {"Desk Lamps", "desk lamp", "task light", "reading papers"}, {"Filing Cabinets", "filing cabinet", "drawer unit", "archiving paperwork"}}},
    {"Garden", {{"Lawn Mowers", "mower", "grass cutter", "a tidy lawn"}, {"Pruning Shears", "shears", "clippers", "trimming branches"},
                {"Watering Cans", "watering can", "sprinkler", "thirsty plants"}, {"Planters", "planter", "flowerpot", "growing herbs"},
                {"Garden Gloves", "gloves", "mitts", "thorny bushes"}, {"Compost Bins", "compost bin", "composter", "organic waste"}}},
    {"Pets", {{"Dog Beds", "dog bed", "pet cushion", "a tired puppy"}, {"Dog Leashes", "leash", "lead", "walking a hound"},
              {"Cat Trees", "cat tree", "climbing tower", "bored kittens"}, {"Pet Carriers", "carrier", "transport crate", "trips to the vet"},
              {"Food Bowls", "bowl", "feeder", "animal mealtimes"}, {"Grooming Brushes", "grooming brush", "fur comb", "shedding hair"}}},
    {"Fitness", {{"Yoga Mats", "yoga mat", "exercise pad", "stretching"}, {"Dumbbells", "dumbbell", "hand weight", "building muscle"},
                 {"Resistance Bands", "resistance band", "elastic", "strength without machines"}, {"Jump Ropes", "jump rope", "skipping cord", "cardio"},
                 {"Foam Rollers", "foam roller", "massage cylinder", "sore legs"}, {"Gym Bags", "gym bag", "holdall", "carrying sportswear"}}},
    {"Baby", {{"Strollers", "stroller", "pushchair", "strolls with an infant"}, {"Car Seats", "car seat", "child restraint", "safe drives with kids"},
              {"Baby Monitors", "baby monitor", "nursery camera", "hearing a newborn"}, {"Bottles", "feeding bottle", "milk flask", "nursing"},
              {"High Chairs", "high chair", "toddler seat", "family dinners"}, {"Diaper Bags", "diaper bag", "changing kit", "outings with little ones"}}},
    {"Music", {{"Guitars", "guitar", "six string", "strumming songs"}, {"Amplifiers", "amplifier", "amp", "louder concerts"},
               {"Microphones", "microphone", "mic", "recording vocals"}, {"Headphones", "headphones", "earphones", "private listening"},
               {"Music Stands", "music stand", "score holder", "sheet notes"}, {"Instrument Cases", "instrument case", "hard shell", "touring musicians"}}},
    {"Travel", {{"Suitcases", "suitcase", "trolley", "holiday packing"}, {"Backpacks", "backpack", "rucksack", "hiking abroad"},
                {"Travel Pillows", "travel pillow", "neck support", "napping on planes"}, {"Toiletry Bags", "toiletry bag", "wash pouch", "cosmetics on the road"},
                {"Travel Adapters", "travel adapter", "plug converter", "foreign sockets"}, {"Luggage Tags", "luggage tag", "name label", "lost baggage"}}},
    {"Workshop", {{"Drills", "drill", "borer", "making holes"}, {"Saws", "saw", "cutter", "cutting timber"},
                  {"Screwdrivers", "screwdriver", "turner", "tightening fasteners"}, {"Tool Boxes", "tool box", "tool chest", "sorting equipment"},
                  {"Work Benches", "work bench", "sturdy table", "craft projects"}, {"Safety Goggles", "goggles", "eye protection", "flying splinters"}}},
    {"Bedroom", {{"Mattresses", "mattress", "sleeping surface", "back pain"}, {"Pillows", "pillow", "headrest", "stiff necks"},
                 {"Duvets", "duvet", "comforter", "winter warmth"}, {"Bed Frames", "bed frame", "bedstead", "a spare room"},
                 {"Nightstands", "nightstand", "bedside table", "books by the bed"}, {"Alarm Clocks", "alarm clock", "wake up timer", "early mornings"}}},
};

struct sample_feature {
    const char *text; /* in documents */
    const char *said; /* in queries */
};
static const struct sample_feature sample_features[FEATURES] = {
    {"foldable", "packs flat"}, {"waterproof", "survives rain"}, {"lightweight", "easy to carry"}, {"heavy duty", "very strong"},
    {"rechargeable", "no batteries to buy"}, {"silent", "makes no noise"}, {"adjustable", "fits everyone"}, {"compact", "takes little room"},
    {"insulated", "holds temperature"}, {"non slip", "stays in place"}, {"washable", "simple to clean"}, {"scratch resistant", "keeps its looks"},
    {"ergonomic", "comfortable to use"}, {"magnetic", "sticks to metal"}, {"recycled", "kind to nature"}, {"handmade", "crafted by people"},
    {"modular", "can be extended"}, {"shockproof", "survives drops"}, {"ventilated", "lets air through"}, {"extra large", "huge"},
};
static const struct sample_feature sample_materials[MATERIALS] = {
    {"bamboo", "wooden"}, {"titanium", "light metal"}, {"steel", "iron alloy"}, {"leather", "hide"}, {"cotton", "natural fibre"},
    {"ceramic", "stoneware"}, {"aluminium", "silvery metal"}, {"canvas", "woven cloth"}, {"silicone", "rubbery"}, {"oak", "hardwood"},
};
static const struct sample_feature sample_colours[COLOURS] = {
    {"crimson", "red"}, {"navy", "dark blue"}, {"olive", "green"}, {"charcoal", "dark grey"}, {"ivory", "off white"},
    {"amber", "yellow"}, {"violet", "purple"}, {"teal", "blue green"}, {"copper", "orange brown"}, {"onyx", "black"},
};

static const char *const sample_brands[DEPARTMENTS * SERIES / 4] = {
    "Norvik", "Altera", "Brightmoor", "Calder", "Dunmore", "Elmswood", "Fjordan", "Greyfell", "Harrowgate", "Ilex", "Juniper", "Kestrel",
    "Lindholm", "Marlowe", "Northway", "Oakhurst", "Pinecrest", "Quillon", "Ravensby", "Saltmarsh", "Thornbury", "Umbra", "Valeport", "Westmark",
    "Yarrow", "Zephyra", "Ashdown", "Birchley", "Corvane", "Drayford", "Eastlea", "Foxglove", "Glenmore", "Hollis", "Ironside", "Jasperton",
    "Kinross", "Larkfield", "Merrow", "Nettleby", "Orrin", "Penhallow",
};
static const char *const sample_series[SERIES] = {
    "Atlas", "Breeze", "Comet", "Drift", "Ember", "Falcon", "Grove", "Harbor", "Indigo", "Juno", "Kodiak", "Lumen", "Meridian", "Nova",
};
static const char *const sample_openings[] = {
    "A %s made for everyday use.", "This %s was designed with care.", "Our best selling %s, now improved.", "The %s that professionals choose.",
    "A dependable %s at a fair price.", "Meet the %s you will keep for years.",
};
static const char *const sample_endings[] = {
    "Comes with a two year warranty.", "Delivered ready to use.", "Tested by an independent laboratory.", "Spare parts are available.",
    "Packed without plastic.", "Made in small batches.", "A gift that gets used.", "Instructions in six languages.",
};

#endif
