"""Countries of the other continents, and three landmarks of each; see `landmarks`."""

from __future__ import annotations

ASIA = """
Afghanistan
    the Minaret of Jam; the Blue Mosque of Mazar-i-Sharif; the Band-e Amir lakes
Bangladesh
    the Ahsan Manzil palace in Dhaka; the Lalbagh Fort; the Sixty Dome Mosque
Bhutan
    the Tiger's Nest monastery near Paro; the Punakha Dzong; the Tashichho Dzong
Cambodia
    Angkor Wat; the Bayon temple; the Ta Prohm temple
China | People's Republic of China | the People's Republic of China | PRC
    the Forbidden City; the Terracotta Army; the Temple of Heaven
India
    the Taj Mahal; the Red Fort of Delhi; the Hawa Mahal
Indonesia
    the Borobudur temple; the Prambanan temple; Mount Bromo
Iran | Islamic Republic of Iran
    Persepolis; Naqsh-e Jahan Square; the Azadi Tower
Iraq
    the ruins of Babylon; the Great Ziggurat of Ur; the Malwiya Minaret of Samarra
Japan
    Mount Fuji; the Kinkaku-ji temple; Himeji Castle
Jordan
    Petra; the ruins of Jerash; the Wadi Rum desert
Kazakhstan
    the Bayterek Tower; the Medeu skating rink; the Charyn Canyon
Laos
    the Pha That Luang stupa; the Patuxai monument; the Kuang Si waterfalls
Lebanon
    the temples of Baalbek; the Jeita Grotto; the Beiteddine Palace
Malaysia
    the Petronas Towers; the Batu Caves; Mount Kinabalu
Mongolia
    the Erdene Zuu Monastery; the Gandantegchinlen Monastery; Sükhbaatar Square in Ulaanbaatar
Myanmar | Burma
    the Shwedagon Pagoda; the Ananda Temple in Bagan; the U Bein Bridge
Nepal
    the Boudhanath stupa; the Swayambhunath stupa; the Pashupatinath Temple
Oman
    the Sultan Qaboos Grand Mosque in Muscat; Nizwa Fort; Bahla Fort
Pakistan
    the Badshahi Mosque; the Faisal Mosque; the ruins of Mohenjo-daro
Philippines | the Philippines
    Rizal Park; the Chocolate Hills; the Mayon volcano
Qatar
    the Museum of Islamic Art in Doha; the Souq Waqif market in Doha; the Lusail Stadium
Saudi Arabia | Kingdom of Saudi Arabia | KSA
    the Kaaba; the Prophet's Mosque in Medina; the Nabataean tombs of Hegra
Singapore
    Marina Bay Sands; the Gardens by the Bay; Changi Airport
South Korea | Republic of Korea | the Republic of Korea
    Gyeongbokgung Palace; the Bulguksa temple; Haeundae Beach
Sri Lanka
    the Sigiriya rock fortress; the Temple of the Tooth; the Dambulla cave temple
Syria
    the ruins of Palmyra; the Umayyad Mosque in Damascus; the Citadel of Aleppo
Thailand
    Wat Arun; Wat Pho; the Grand Palace in Bangkok
United Arab Emirates | the United Arab Emirates | UAE
    the Burj Khalifa; the Burj Al Arab; the Sheikh Zayed Grand Mosque
Uzbekistan
    the Registan in Samarkand; the Ark of Bukhara; the Gur-e-Amir mausoleum
Vietnam | Viet Nam
    Ha Long Bay; the Imperial City of Huế; the Cu Chi tunnels
"""

AFRICA = """
Algeria
    the Roman ruins of Timgad; the Roman ruins of Djémila; the Notre-Dame d'Afrique basilica
Botswana
    the Okavango Delta; Chobe National Park; the Tsodilo Hills
Egypt
    the Great Pyramid of Giza; the Karnak temple complex; the temples of Abu Simbel
Ethiopia
    the rock-hewn churches of Lalibela; the Fasil Ghebbi fortress in Gondar; the Blue Nile Falls
Ghana
    Cape Coast Castle; Elmina Castle; Kakum National Park
Kenya
    Fort Jesus in Mombasa; the Maasai Mara reserve; Lake Nakuru
Libya
    the ruins of Leptis Magna; the ruins of Sabratha; the ruins of Cyrene
Madagascar
    the Avenue of the Baobabs; the Tsingy de Bemaraha; the Rova of Antananarivo
Mali
    the Great Mosque of Djenné; the Sankoré Mosque in Timbuktu; the Tomb of Askia in Gao
Morocco
    the Hassan II Mosque; the Jemaa el-Fnaa square; the Majorelle Garden
Namibia
    the Sossusvlei dunes; Etosha National Park; the Fish River Canyon
Nigeria
    Zuma Rock; Aso Rock; the Osun-Osogbo Sacred Grove
Rwanda
    the Kigali Genocide Memorial; Nyungwe Forest; the Hôtel des Mille Collines
Senegal
    the House of Slaves on Gorée Island; the African Renaissance Monument; Lake Retba
South Africa
    Table Mountain in Cape Town; Robben Island; the Union Buildings in Pretoria
Tanzania
    Mount Kilimanjaro; the Ngorongoro Crater; the Stone Town of Zanzibar
Tunisia
    the amphitheatre of El Djem; the ruins of Carthage; the Great Mosque of Kairouan
Uganda
    the Kasubi Tombs; Murchison Falls; the Bwindi Impenetrable Forest
"""

AMERICAS_AND_OCEANIA = """
Argentina
    the Obelisco in Buenos Aires; the Casa Rosada; the Perito Moreno Glacier
Australia
    the Sydney Opera House; Uluru; Bondi Beach
Bolivia
    the Salar de Uyuni; the ruins of Tiwanaku; the Cerro Rico of Potosí
Brazil
    the Christ the Redeemer statue; Sugarloaf Mountain in Rio de Janeiro; the Maracanã Stadium
Canada
    the CN Tower; the Château Frontenac; Parliament Hill in Ottawa
Chile
    Torres del Paine; La Moneda Palace; the moai of Easter Island
Colombia
    the Gold Museum in Bogotá; the Salt Cathedral of Zipaquirá; the Castillo San Felipe de Barajas
Costa Rica
    the Arenal Volcano; the Poás Volcano; Manuel Antonio National Park
Cuba
    the Malecón in Havana; the Capitolio in Havana; the Che Guevara Mausoleum in Santa Clara
Dominican Republic | the Dominican Republic
    the Alcázar de Colón in Santo Domingo; the Columbus Lighthouse; the village of Altos de Chavón
Ecuador
    the Mitad del Mundo monument; the Basílica del Voto Nacional in Quito; the Cotopaxi volcano
Guatemala
    the ruins of Tikal; Lake Atitlán; the Santa Catalina Arch
Jamaica
    Dunn's River Falls; the Bob Marley Museum in Kingston; Devon House in Kingston
Mexico
    Chichén Itzá; the pyramids of Teotihuacan; the ruins of Tulum
New Zealand | NZ | Aotearoa
    the Sky Tower in Auckland; Milford Sound; the Waitangi Treaty Grounds
Panama
    the Miraflores Locks; the Bridge of the Americas; the Biomuseo
Peru
    Machu Picchu; the Nazca Lines; the Sacsayhuamán fortress
United States | the United States | United States of America | US | USA
    the Statue of Liberty; the Golden Gate Bridge; Mount Rushmore
Uruguay
    the Palacio Salvo in Montevideo; Casapueblo; the Solís Theatre
Venezuela
    Angel Falls; the Teresa Carreño Theatre; Lake Maracaibo
"""
