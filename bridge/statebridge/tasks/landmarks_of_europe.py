"""Countries of Europe and the Caucasus, and three landmarks of each; see `landmarks`."""

from __future__ import annotations

EUROPE = """
Albania
    Skanderbeg Square; the ruins of Butrint; Gjirokastër Castle
Armenia
    Geghard Monastery; the Temple of Garni; Etchmiadzin Cathedral
Austria
    Schönbrunn Palace; the Hofburg; Hohensalzburg Fortress
Azerbaijan
    the Maiden Tower in Baku; the Flame Towers; the Palace of the Shirvanshahs
Belarus
    Mir Castle; Nesvizh Castle; Victory Square in Minsk
Belgium
    the Atomium; the Manneken Pis fountain; the Belfry of Bruges
Bosnia and Herzegovina | Bosnia | Bosnia-Herzegovina | Bosnia & Herzegovina
    the Old Bridge of Mostar; the Baščaršija bazaar in Sarajevo
    the Mehmed Paša Sokolović Bridge in Višegrad
Bulgaria
    the Rila Monastery; the Alexander Nevsky Cathedral in Sofia; the ancient theatre of Plovdiv
Croatia
    Diocletian's Palace; the Plitvice Lakes; the Pula Arena
Czech Republic | Czechia | the Czech Republic
    the Charles Bridge; Prague Castle; Karlštejn Castle
Denmark
    the Little Mermaid statue in Copenhagen; the Tivoli Gardens; Kronborg Castle
Estonia
    Toompea Castle; Tallinn Town Hall; Kadriorg Palace
Finland
    Helsinki Cathedral; Olavinlinna Castle; the Temppeliaukio Church
France
    the Eiffel Tower; the Palace of Versailles; Mont-Saint-Michel
Georgia
    Narikala Fortress; Svetitskhoveli Cathedral; the cave town of Uplistsikhe
Germany
    the Brandenburg Gate; Neuschwanstein Castle; Cologne Cathedral
Greece | Hellas
    the Acropolis of Athens; the White Tower of Thessaloniki; the Palace of Knossos
Hungary
    Buda Castle; the Széchenyi Chain Bridge; the Fisherman's Bastion
Iceland
    the Hallgrímskirkja church; the Gullfoss waterfall; the Blue Lagoon near Grindavík
Ireland | Republic of Ireland | the Republic of Ireland | Éire
    the Cliffs of Moher; the Rock of Cashel; the Guinness Storehouse
Italy
    the Colosseum; the Leaning Tower of Pisa; the Doge's Palace in Venice
Latvia
    the House of the Blackheads in Riga; Rundāle Palace; Turaida Castle
Lithuania
    Trakai Castle; the Gediminas Tower; the Hill of Crosses
Malta
    Saint John's Co-Cathedral in Valletta; the Hypogeum of Ħal Saflieni; the Ġgantija temples
Montenegro
    the island of Sveti Stefan; Ostrog Monastery; the old town walls of Kotor
Netherlands | the Netherlands | Holland
    the Rijksmuseum; the Anne Frank House; the windmills of Kinderdijk
Norway
    the Bryggen wharf in Bergen; the Preikestolen cliff; Nidaros Cathedral
Poland
    Wawel Castle; the Wieliczka Salt Mine; Malbork Castle
Portugal
    the Belém Tower; the Jerónimos Monastery; the Pena Palace
Romania
    Bran Castle; Peleș Castle; the Palace of the Parliament in Bucharest
Russia | Russian Federation | the Russian Federation
    Red Square in Moscow; the Hermitage Museum; Lake Baikal
Serbia
    the Belgrade Fortress; the Church of Saint Sava in Belgrade; the Petrovaradin Fortress
Slovakia | Slovak Republic | the Slovak Republic
    Bratislava Castle; Spiš Castle; Bojnice Castle
Slovenia
    Lake Bled; the Postojna Cave; Predjama Castle
Spain
    the Alhambra; the Sagrada Família; the Prado Museum
Sweden
    the Vasa Museum; Drottningholm Palace; the Skansen open-air museum
Switzerland
    the Chapel Bridge in Lucerne; Chillon Castle; the Jet d'Eau fountain in Geneva
Turkey | Türkiye | Turkiye
    the Hagia Sophia; the Topkapı Palace; the Library of Celsus in Ephesus
Ukraine
    Saint Sophia Cathedral in Kyiv; the Potemkin Stairs in Odesa; the Lviv Opera House
United Kingdom | the United Kingdom | UK | Britain | Great Britain | England
    Big Ben; Stonehenge; the Tower of London
"""
