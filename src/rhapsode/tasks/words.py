"""Names and days that several packs draw from."""

FIRST_NAMES = (
    "Amina", "Anders", "Beatriz", "Chidi", "Clara", "Daniel", "Elif", "Emeka", "Farah", "Giulia", "Hanna", "Ibrahim",
    "Ines", "Jakub", "Jun", "Kofi", "Lena", "Lucas", "Mai", "Marek", "Nadia", "Noor", "Olga", "Paulo", "Priya", "Rosa",
    "Samir", "Sofia", "Tomas", "Yuki",
)  # fmt: skip
SURNAMES = (
    "Abara", "Adler", "Bakker", "Berg", "Castro", "Dahl", "Demir", "Farouk", "Fischer", "Garcia", "Haddad", "Hansen",
    "Ivanova", "Jansen", "Kaya", "Kim", "Kowalski", "Laurent", "Lindgren", "Mensah", "Moreau", "Novak", "Okafor",
    "Pereira", "Rossi", "Sato", "Silva", "Tran", "Weber", "Yilmaz",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
CITIES = (
    "Aarhus", "Antwerp", "Bergen", "Bilbao", "Bristol", "Cork", "Dresden", "Gdansk", "Ghent", "Graz", "Leeds", "Lyon",
    "Malmo", "Nantes", "Oslo", "Porto", "Seville", "Tampere", "Turin", "Utrecht",
)  # fmt: skip
