/* sample_words.h: the word lists behind the sample catalogue (sample.c). Words in `said` and `purpose` occur in queries only, never in a
 * document: a search engine that matches words cannot know them, a trained model can. */
#ifndef SEMINDEX_SAMPLE_WORDS_H
#define SEMINDEX_SAMPLE_WORDS_H

enum { DEPARTMENTS = 12, SHELVES = 7, SERIES = 12, FEATURES = 20, MATERIALS = 10, COLOURS = 10 };

struct sample_shelf { /* a subcategory; shelf i + 1 of a department is what people buy after shelf i */
    const char *name, *noun;    /* in documents: "Tents", "tent" */
    const char *said, *purpose; /* in queries: another word for the noun, and what it is for */
    const char *parts;          /* in documents: four words that belong to such products */
};
struct sample_department {
    const char *name;
    struct sample_shelf shelf[SHELVES];
};

static const struct sample_department sample_departments[DEPARTMENTS] = {
    {"Camping",
     {{"Tents", "tent", "shelter", "sleeping outdoors", "poles flysheet pegs groundsheet"},
      {"Sleeping Bags", "sleeping bag", "bedroll", "cold nights outside", "hood filling zipper liner"},
      {"Camp Stoves", "stove", "burner", "cooking at a campsite", "gas flame ignition windshield"},
      {"Cookware", "pot set", "pans", "outdoor meals", "lid skillet strainer ladle"},
      {"Lanterns", "lantern", "lamp", "lighting a camp", "lumens hook dimmer wick"},
      {"Coolers", "cooler", "icebox", "keeping drinks chilled", "ice drain cans gasket"},
      {"Hammocks", "hammock", "hanging bed", "lazy afternoons", "ropes trees knots netting"}}},
    {"Cycling",
     {{"Road Bikes", "road bike", "racer", "fast rides on tarmac", "derailleur fork drivetrain spokes"},
      {"Bike Helmets", "helmet", "headgear", "protecting a rider", "visor chinstrap foam vents"},
      {"Bike Lights", "bike light", "beam", "riding after dark", "handlebar reflector blinking seatpost"},
      {"Bike Locks", "lock", "chain", "stopping thieves", "shackle keys cylinder bolt"},
      {"Bike Pumps", "pump", "inflator", "flat tyres", "valve gauge nozzle hose"},
      {"Cycling Jerseys", "jersey", "top", "sweaty climbs", "sleeves collar mesh hem"},
      {"Panniers", "pannier", "side case", "riding with cargo", "rack clips buckles flap"}}},
    {"Kitchen",
     {{"Kettles", "kettle", "boiler", "hot water", "spout litre thermostat limescale"},
      {"Toasters", "toaster", "bread browner", "crisp slices", "crumb slots bagel lever"},
      {"Blenders", "blender", "mixer", "smoothies", "jug blades pulse motor"},
      {"Knives", "chef knife", "cutting edge", "chopping vegetables", "tang bolster sharpening rivets"},
      {"Cutting Boards", "cutting board", "block", "slicing on a worktop", "juice groove grain feet"},
      {"Storage Jars", "storage jar", "canister", "dry goods", "airtight seal pasta flour"},
      {"Coffee Makers", "coffee maker", "espresso machine", "morning caffeine", "beans grinder filter crema"}}},
    {"Office",
     {{"Desks", "desk", "workstation", "working at home", "tabletop legs drawer grommet"},
      {"Office Chairs", "chair", "seat", "long hours sitting", "castors armrest lumbar swivel"},
      {"Monitor Arms", "monitor arm", "screen mount", "raising a display", "vesa clamp tilt spring"},
      {"Keyboards", "keyboard", "keypad", "typing", "switches keycaps layout bluetooth"},
      {"Desk Lamps", "desk lamp", "task light", "reading papers", "bulb shade brightness gooseneck"},
      {"Filing Cabinets", "filing cabinet", "document store", "archiving paperwork", "folders rails hanging tray"},
      {"Whiteboards", "whiteboard", "writing panel", "team planning", "markers eraser surface magnets"}}},
    {"Garden",
     {{"Lawn Mowers", "mower", "grass cutter", "a tidy lawn", "mulching deck petrol wheels"},
      {"Pruning Shears", "shears", "clippers", "trimming branches", "bypass pivot hedges twigs"},
      {"Watering Cans", "watering can", "sprinkler", "thirsty plants", "rose spray gallons seedlings"},
      {"Planters", "planter", "flowerpot", "growing herbs", "soil drainage saucer roots"},
      {"Garden Gloves", "gloves", "mitts", "thorny bushes", "cuffs fingers palms weeding"},
      {"Compost Bins", "compost bin", "composter", "organic waste", "peelings hatch leaves decompose"},
      {"Bird Feeders", "bird feeder", "seed dispenser", "watching sparrows", "perches suet tits sunflower"}}},
    {"Pets",
     {{"Dog Beds", "dog bed", "pet cushion", "a tired puppy", "bolster stuffing naps cover"},
      {"Dog Leashes", "leash", "lead", "walking a hound", "swivel snap loop tangle"},
      {"Cat Trees", "cat tree", "climbing tower", "bored kittens", "sisal scratching perch condo"},
      {"Pet Carriers", "carrier", "transport crate", "trips to the vet", "mesh door shoulder kennel"},
      {"Food Bowls", "food bowl", "animal dish", "animal mealtimes", "kibble rim rubber spill"},
      {"Grooming Brushes", "grooming brush", "fur comb", "shedding hair", "bristles undercoat coat detangle"},
      {"Aquariums", "aquarium", "fish tank", "tropical swimmers", "gravel heater tetra algae"}}},
    {"Fitness",
     {{"Yoga Mats", "yoga mat", "exercise pad", "stretching", "poses grip rolled thickness"},
      {"Dumbbells", "dumbbell", "hand weight", "building muscle", "kilograms knurled plates biceps"},
      {"Resistance Bands", "resistance band", "elastic", "strength without machines", "latex tension anchors squats"},
      {"Jump Ropes", "jump rope", "skipping cord", "cardio", "bearings cable handles revolutions"},
      {"Foam Rollers", "foam roller", "massage cylinder", "sore legs", "density trigger fascia hamstrings"},
      {"Gym Bags", "gym bag", "holdall", "carrying sportswear", "shoe compartment towel duffel"},
      {"Kettlebells", "kettlebell", "swing weight", "explosive workouts", "swings snatch vinyl base"}}},
    {"Baby",
     {{"Strollers", "stroller", "pushchair", "strolls with an infant", "canopy bassinet brake suspension"},
      {"Car Seats", "car seat", "child restraint", "safe drives with kids", "isofix harness booster recline"},
      {"Baby Monitors", "baby monitor", "nursery camera", "hearing a newborn", "lullaby range video intercom"},
      {"Bottles", "feeding bottle", "milk flask", "nursing", "teat colic steriliser millilitre"},
      {"High Chairs", "high chair", "toddler seat", "family dinners", "tray footrest bib highness"},
      {"Diaper Bags", "diaper bag", "changing kit", "outings with little ones", "wipes nappies pockets pacifier"},
      {"Cribs", "crib", "infant bed", "a first nursery", "slats rails teething bars"}}},
    {"Music",
     {{"Guitars", "guitar", "six string", "strumming songs", "fretboard pickups neck tuners"},
      {"Amplifiers", "amplifier", "amp", "louder concerts", "watts gain reverb speaker"},
      {"Microphones", "microphone", "mic", "recording vocals", "condenser cardioid xlr pop"},
      {"Headphones", "headphones", "earphones", "private listening", "earcups drivers jack bass"},
      {"Music Stands", "music stand", "score holder", "sheet notes", "tripod ledge pages orchestra"},
      {"Instrument Cases", "instrument case", "hard shell", "touring musicians", "plush latches interior violin"},
      {"Keyboards Digital", "digital piano", "electric keys", "practising scales", "octaves pedal hammer sustain"}}},
    {"Travel",
     {{"Suitcases", "suitcase", "trolley", "holiday packing", "spinner telescopic tsa cabin"},
      {"Backpacks", "backpack", "rucksack", "hiking abroad", "straps hydration hipbelt laptop"},
      {"Travel Pillows", "travel pillow", "neck support", "napping on planes", "memory microbeads flight snooze"},
      {"Toiletry Bags", "toiletry bag", "wash pouch", "cosmetics on the road", "shampoo toothbrush hanger liquids"},
      {"Travel Adapters", "travel adapter", "plug converter", "foreign sockets", "voltage usb prongs fuse"},
      {"Luggage Tags", "luggage tag", "name label", "lost baggage", "address buckle loop identify"},
      {"Passport Wallets", "passport wallet", "document holder", "crossing borders", "rfid boarding cards currency"}}},
    {"Workshop",
     {{"Drills", "drill", "borer", "making holes", "chuck torque bits hammer"},
      {"Saws", "saw", "timber cutter", "cutting timber", "teeth kerf plywood fence"},
      {"Screwdrivers", "screwdriver", "turner", "tightening fasteners", "phillips ratchet shaft screws"},
      {"Tool Boxes", "tool box", "tool chest", "sorting equipment", "cantilever trays organiser hinges"},
      {"Work Benches", "work bench", "sturdy table", "craft projects", "vice pegboard clamps shelf"},
      {"Safety Goggles", "goggles", "eye protection", "flying splinters", "lens antifog elastic splash"},
      {"Ladders", "ladder", "climbing aid", "reaching high shelves", "rungs steps platform extension"}}},
    {"Bedroom",
     {{"Mattresses", "mattress", "sleeping surface", "back pain", "springs topper firmness layers"},
      {"Pillows", "pillow", "headrest", "stiff necks", "pillowcase down fluffy allergy"},
      {"Duvets", "duvet", "comforter", "winter warmth", "tog quilted feathers corners"},
      {"Bed Frames", "bed frame", "bedstead", "a spare room", "headboard slatted queen centre"},
      {"Nightstands", "nightstand", "bedside table", "books by the bed", "drawers knobs charging veneer"},
      {"Alarm Clocks", "alarm clock", "wake up timer", "early mornings", "snooze digits radio sunrise"},
      {"Wardrobes", "wardrobe", "clothes closet", "hanging shirts", "hangers mirror doors sliding"}}},
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

static const char *const sample_brands[42] = {
    "Norvik", "Altera", "Brightmoor", "Calder", "Dunmore", "Elmswood", "Fjordan", "Greyfell", "Harrowgate", "Ilex", "Juniper", "Kestrel",
    "Lindholm", "Marlowe", "Northway", "Oakhurst", "Pinecrest", "Quillon", "Ravensby", "Saltmarsh", "Thornbury", "Umbra", "Valeport", "Westmark",
    "Yarrow", "Zephyra", "Ashdown", "Birchley", "Corvane", "Drayford", "Eastlea", "Foxglove", "Glenmore", "Hollis", "Ironside", "Jasperton",
    "Kinross", "Larkfield", "Merrow", "Nettleby", "Orrin", "Penhallow",
};
static const char *const sample_series[SERIES] = {
    "Atlas", "Breeze", "Comet", "Drift", "Ember", "Falcon", "Grove", "Harbor", "Indigo", "Juno", "Kodiak", "Lumen",
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
