"""The vocabulary of the synthetic clinic. Places are public ZIP prefixes; nothing here describes a person."""

from __future__ import annotations

FEMALE = (
    "Abigail Aisha Alice Amelia Ana Angela Anita Beatriz Bianca Camila Caroline Chloe Claire Daniela Deborah Diana "
    "Dorothy Elena Eleanor Elizabeth Emily Esther Eva Fatima Florence Gabriela Gloria Grace Hannah Harper Helen Ingrid "
    "Irene Isabella Jane Jasmine Joan Josephine Julia Karen Katherine Keiko Laura Leila Lillian Linda Lucia Madison "
    "Margaret Maria Martha Mei Mia Monica Nadia Naomi Natalie Nicole Nora Olivia Patricia Priya Rachel Rebecca Rosa "
    "Ruth Samantha Sarah Sofia Sonia Susan Tamara Teresa Valentina Vera Victoria Violet Wanda Yolanda Zoe"
).split()
MALE = (
    "Aaron Adam Ahmed Albert Alejandro Andre Anthony Arthur Benjamin Bruce Carlos Charles Christopher Daniel Darius "
    "David Dennis Diego Dominic Edward Elijah Emmanuel Eric Ethan Felix Fernando Francis Frank Gabriel George Gerald "
    "Gregory Hassan Henry Hiroshi Hugo Ian Isaac Ivan Jacob James Javier Jerome Joel John Jonathan Jorge Joseph Julian "
    "Kenji Kevin Lawrence Leo Liam Luis Malik Marcus Martin Matthew Michael Miguel Nathan Nicholas Noah Omar Oscar "
    "Patrick Paul Peter Philip Rafael Raymond Richard Robert Samuel Sanjay Simon Stephen Theodore Thomas Victor "
    "Vincent Walter William Xavier Yusuf"
).split()
LAST = (
    "Abbott Acosta Adeyemi Aguilar Ahmed Alvarez Andersen Archer Atkins Avila Baker Baldwin Banerjee Barnes Barrett "
    "Becker Bennett Blackwell Boucher Bradley Brennan Brooks Burke Byrne Calderon Cameron Campbell Cardenas Castillo "
    "Chandra Chavez Chen Choi Clarke Coleman Conway Cruz Dalton Delgado Desai Diaz Donovan Doyle Dubois Eklund Ellis "
    "Erickson Espinoza Farrell Ferreira Fischer Fitzgerald Flores Foster Franklin Fujimoto Gallagher Garcia Gibson "
    "Gomez Goodwin Graham Greene Gupta Guzman Hammond Hansen Harper Hart Hayes Hernandez Hoffman Holloway Huang Hughes "
    "Hussain Ibarra Iverson Jackson Jansen Jimenez Johansson Jordan Kaplan Kaur Keller Kelly Khan Kim Kowalski Kruger "
    "Lambert Larsen Lawson Lee Lindgren Lopez Lowe Lynch Maldonado Marino Marsh Martinez Mbeki McCarthy Medina Mehta "
    "Mendoza Meyer Miller Molina Montgomery Morales Moreau Murphy Nakamura Navarro Nguyen Nolan Novak Nunez Obrien "
    "Okafor Olsen Ortega Osborne Owens Pacheco Palmer Park Patel Pearson Perez Petrov Pham Porter Quinn Ramirez Reyes "
    "Richter Rivera Robles Rosen Rossi Rowe Russo Salazar Santiago Sato Schneider Serrano Shah Silva Singh Solomon "
    "Sorensen Soto Stein Sullivan Suzuki Tanaka Torres Tran Turner Underwood Vargas Vasquez Vega Wagner Wallace Walsh "
    "Watanabe Weaver Webb Whitaker Wilcox Wolfe Wong Yamamoto Yates Young Zamora Zhang Zimmerman"
).split()
STREETS = (
    "Alder Amherst Ashland Bayview Beacon Birch Bridge Canal Cedar Chestnut Church Clover Cypress Dogwood Elm Fairview "
    "Forest Franklin Garden Grove Hawthorn Hickory Highland Hillcrest Jefferson Juniper Lakeview Laurel Lincoln Linden "
    "Locust Magnolia Main Maple Meadow Mill Monroe Oak Orchard Park Pine Poplar Prospect Ridge River Rosewood Spring "
    "Spruce Summit Sycamore Union Valley Walnut Washington Willow"
).split()
STREET_KINDS = ("Street", "Avenue", "Road", "Lane", "Drive", "Court", "Boulevard")

# City, state, three-digit ZIP prefix. The last ten prefixes are ones Safe Harbor turns into 000.
PLACES = (
    ("Boston", "MA", "021"),
    ("Providence", "RI", "029"),
    ("Hartford", "CT", "061"),
    ("Newark", "NJ", "071"),
    ("Brooklyn", "NY", "112"),
    ("Albany", "NY", "122"),
    ("Pittsburgh", "PA", "152"),
    ("Philadelphia", "PA", "191"),
    ("Baltimore", "MD", "212"),
    ("Richmond", "VA", "232"),
    ("Raleigh", "NC", "276"),
    ("Charleston", "SC", "294"),
    ("Atlanta", "GA", "303"),
    ("Miami", "FL", "331"),
    ("Birmingham", "AL", "352"),
    ("Nashville", "TN", "372"),
    ("Louisville", "KY", "402"),
    ("Columbus", "OH", "432"),
    ("Indianapolis", "IN", "462"),
    ("Detroit", "MI", "482"),
    ("Des Moines", "IA", "503"),
    ("Milwaukee", "WI", "532"),
    ("Minneapolis", "MN", "554"),
    ("Chicago", "IL", "606"),
    ("Kansas City", "MO", "641"),
    ("Omaha", "NE", "681"),
    ("New Orleans", "LA", "701"),
    ("Oklahoma City", "OK", "731"),
    ("Dallas", "TX", "752"),
    ("Houston", "TX", "770"),
    ("Denver", "CO", "802"),
    ("Boise", "ID", "837"),
    ("Salt Lake City", "UT", "841"),
    ("Phoenix", "AZ", "850"),
    ("Las Vegas", "NV", "891"),
    ("Los Angeles", "CA", "900"),
    ("San Diego", "CA", "921"),
    ("San Francisco", "CA", "941"),
    ("Portland", "OR", "972"),
    ("Seattle", "WA", "981"),
    ("Charlestown", "NH", "036"),
    ("Saint Johnsbury", "VT", "059"),
    ("Bellevue", "MN", "556"),
    ("Valentine", "NE", "692"),
    ("Yellowstone", "WY", "821"),
    ("Evanston", "WY", "831"),
    ("Truth or Consequences", "NM", "879"),
    ("Tucumcari", "NM", "884"),
    ("Fallon", "NV", "893"),
    ("Torrington", "WY", "822"),
)
AREA_CODES = (
    "201 202 203 206 207 208 210 212 213 214 215 216 217 218 219 225 228 229 231 234 239 240 248 251 252 253 254 256 "
    "260 262 267 269 270 276 281 301 302 303 304 305 307 308 309 310 312 313 314 315 316 317 318 319 320 321 323 325 "
    "330 334 336 337 339 347 351 352 360 361 385 386 401 402 404 405 406 407 408 409 410 412 413 414 415 417 419 423 "
    "424 425 430 432 434 435 440 443 458 469 470 475 478 479 480 484 501 502 503 504 505 507 508 509 510 512 513 515"
).split()

DEPARTMENTS = {
    "office": ("Family Medicine", "Cardiology", "Endocrinology", "Dermatology", "Rheumatology"),
    "emergency": ("Emergency",),
    "inpatient": ("Internal Medicine", "Surgery", "Neurology", "Oncology"),
    "telehealth": ("Family Medicine", "Behavioral Health"),
}
# ICD-10-CM code, description.
DIAGNOSES = (
    ("I10", "Essential (primary) hypertension"),
    ("E11.9", "Type 2 diabetes mellitus without complications"),
    ("E78.5", "Hyperlipidemia, unspecified"),
    ("J45.909", "Unspecified asthma, uncomplicated"),
    ("M54.50", "Low back pain, unspecified"),
    ("F41.1", "Generalized anxiety disorder"),
    ("F32.9", "Major depressive disorder, single episode, unspecified"),
    ("K21.9", "Gastro-esophageal reflux disease without esophagitis"),
    ("J06.9", "Acute upper respiratory infection, unspecified"),
    ("N39.0", "Urinary tract infection, site not specified"),
    ("E03.9", "Hypothyroidism, unspecified"),
    ("M17.11", "Unilateral primary osteoarthritis, right knee"),
    ("I48.91", "Unspecified atrial fibrillation"),
    ("I50.9", "Heart failure, unspecified"),
    ("J44.9", "Chronic obstructive pulmonary disease, unspecified"),
    ("N18.30", "Chronic kidney disease, stage 3 unspecified"),
    ("G43.909", "Migraine, unspecified, not intractable"),
    ("B20", "Human immunodeficiency virus [HIV] disease"),
    ("C50.919", "Malignant neoplasm of unspecified site of unspecified female breast"),
    ("C61", "Malignant neoplasm of prostate"),
    ("L40.0", "Psoriasis vulgaris"),
    ("M06.9", "Rheumatoid arthritis, unspecified"),
    ("R07.9", "Chest pain, unspecified"),
    ("S93.401A", "Sprain of unspecified ligament of right ankle, initial encounter"),
)
# LOINC, name, unit, low and high of the reference range.
LABS = (
    ("4548-4", "Hemoglobin A1c", "%", 4.0, 5.6),
    ("2345-7", "Glucose", "mg/dL", 70.0, 99.0),
    ("2160-0", "Creatinine", "mg/dL", 0.6, 1.3),
    ("2951-2", "Sodium", "mmol/L", 136.0, 145.0),
    ("2823-3", "Potassium", "mmol/L", 3.5, 5.1),
    ("718-7", "Hemoglobin", "g/dL", 12.0, 17.5),
    ("6690-2", "Leukocytes", "10*3/uL", 4.5, 11.0),
    ("777-3", "Platelets", "10*3/uL", 150.0, 400.0),
    ("13457-7", "LDL cholesterol", "mg/dL", 40.0, 129.0),
    ("3016-3", "Thyrotropin", "mIU/L", 0.4, 4.0),
)
PAYERS = ("Medicare", "Blue Harbor Health", "Prairie Mutual", "Northfield HMO", "State Medicaid")

# Free text as clinicians write it: identifiers appear in the flow of a sentence, without a label to find them by.
NOTES = {
    "progress": (
        "{first} {last} is a {age}-year-old seen for {problem}. Feels better since {date}. Continue current plan, "
        "recheck in three months.",
        "Pt {last}, {first} (MRN {mrn}) here for follow-up of {problem}. No new complaints. Partner reachable at "
        "{phone}.",
        "{title} {last} reports worsening {problem} over two weeks. Discussed options with patient and "
        "daughter {relative}. Labs drawn {date}.",
        "Seen {date_us} with interpreter. {first} takes medication most days, {problem} stable. Next visit scheduled; "
        "reminder to {email}.",
        "Reviewed chart {mrn}, {problem}: medication adjusted. {first} lives at {address}, {city} and asked for "
        "delivery by mail.",
        "Doing well. No side effects. Blood pressure at goal. Return in six months.",
    ),
    "discharge": (
        "{first} {last}, DOB {dob}, admitted {date} with {problem}, treated and discharged home in stable condition. "
        "Follow up with primary care within 7 days. Call {phone} with questions.",
        "Discharge summary for {mrn}: {problem}. Hospital course uneventful. {relative} (sister) will drive "
        "{title} {last} home.",
        "Patient identity verified by name, date of birth {dob} and SSN {ssn}. Course complicated by mild fever on "
        "{date}. Discharged on oral antibiotics.",
    ),
    "phone": (
        "{date_us} call from {first} {last} at {phone}: refill request. Pharmacy notified.",
        "Left message for {title} {last} at {phone} regarding results of {date}. Callback requested.",
        "{relative} called on behalf of {first}. Identity confirmed (SSN ending {ssn4}). Send records to {email}.",
        "Insurance asked for SSN on file for {last}, {first}: {ssn}. Referred to billing, not given out by phone.",
    ),
}
