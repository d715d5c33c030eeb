"""Names for generated multi-hop rows: common first names, and invented names for the rest.

No name is part of another one: a metric that looks for a name inside a text cannot find it
there by accident. Invented names carry no knowledge that a model could answer from.
"""

from __future__ import annotations


def _names(block: str) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in block.split())


PEOPLE = _names(
    """
    Adaku Agnes Amara Bastien Beatrix Bogdan Boris Bruno Celeste Chiara Dagny Darius Delphine
    Dmitri Emeka Eskil Esther Farida Farouk Felix Freya Gideon Giulia Greta Gustav Hector
    Helga Hilde Ingrid Ismail Isolde Jasper Joanna Jocelyn Kamala Katarina Kenji Klaus Kwame
    Lennart Leopold Lorna Lucia Ludmila Magnus Mateo Mbali Mirela Moira Nestor Nikolai Oksana
    Ophelia Ottilie Pablo Pilar Quentin Rafael Raheem Ramona Rosalind Rukmini Sigrid Sophie
    Soraya Tamsin Thaddeus Tindra Tobias Ulrich Ursula Viktor Wanda Wilhelm Xavier Ximena
    Yannick Yusuf Yvonne Zelda Zsofia Zubin
    """
)

PLACES = _names(
    """
    Bagimor Bastilde Borvansk Braross Brerkavia Brusavia Busansk Cagemar Cebund Cenansk Cevora
    Cidimor Ciloss Derora Dilora Dimora Doboss Dodund Domista Drathund Drisavia Drorkarra
    Drugena Dunovia Fibena Fisilde Gastista Geltoss Gibansk Girkilde Gosemar Grelilde
    Groltarra Grustansk Gudista Gultund Guskund Habena Hanethun Hathista Himethun Huskund
    Jabund Jasemar Jendoss Jethimor Jigethun Judoss Jundethun Juthora Kastena Keltabel Klegoss
    Klorora Koboss Kugovia Kuvavia Lorilde Lustund Manethun Marista Memimor Merovia Meskoss
    Miltista Minethun Multoss Navabel Nedabel Nelethun Nithovia Plestilde Plinimor Ploskimor
    Pludansk Podilde Pultansk Puransk Quanilde Quirvund Quoransk Quurvoss Ragista Ristansk
    Romista Rurkoss Semansk Sigora Sulilde Terkethun Tinarra Tiskovia Tivund Tomista Tramimor
    Trethimor Truvethun Tumovia Vedund Verund Vibavia Vidovia Voskena Vrathund Vristilde
    Vrolmovia Vulethun Vumilde Wenovia Wisimor Wultemar Yastena Yethund Yevora Yiskora Yonarra
    Zegena Zostimor Zusansk Zuthavia
    """
)

COMPANIES = _names(
    """
    Bilmelo Birviva Bobiva Boltiva Bomomet Brobando Camando Cinando Colmix Cugando Cunando
    Dalmando Dindomet Druguxa Fenelo Finodyn Givix Gralmelo Grivodyn Habeon Harkomet Herkelo
    Hiltelo Himomet Hiniva Hirvodyn Horkelo Huskando Jadix Jevodyn Jolteon Jonomet Julmomet
    Kilmando Klelodyn Kovando Laduxa Lirodyn Lumiva Lunodyn Milmuxa Mimuxa Norelo Plendix
    Plondomet Plulelo Quethomet Senando Tidix Tiriva Trultodyn Tundomet Vrosuxa Vrusix Zomix
    Zuvando
    """
)

SPECIES = _names(
    """
    Amberthread Ashcap Ashcrown Ashspot Bramblebell Brambleleaf Bramblethread Copperbell
    Coppertail Duskleaf Duskspot Dusktail Emberbell Emberspot Embertail Frostcrown Frosttail
    Frostwing Goldenspot Goldenthread Goldenwing Hazelbell Hazeltail Hazelwing Ivorybell
    Ivorycrown Ivoryspot Jadecap Jadecrown Jadethread Lacecap Lacespot Lacewing Mosscrown
    Mossspot Mosswing Nightcap Nightcrown Nightspot Ochrebell Ochreleaf Ochrewing Pearlcrown
    Pearltail Pearlthread Rustbell Rustcrown Rustthread Silverspot Silvertail Thornleaf
    Thornspot Thorntail Velvetcrown Velvetleaf Velvetwing
    """
)

PAINTINGS = _names(
    """
    Broken_Orchard Crimson_Bridge Crimson_Garden Crimson_Orchard Crimson_Window Distant_Bridge
    Distant_Mirror Empty_Garden Empty_Lantern Empty_Mirror Empty_Window Fading_Garden
    Fading_Lantern Fading_Orchard Fading_Window Hidden_Bridge Hidden_Harbour Hidden_Lantern
    Little_Bridge Little_Mirror Little_Orchard Morning_Harbour Morning_Meadow Morning_Mirror
    Northern_Bridge Northern_Garden Northern_Mirror Northern_Orchard Quiet_Bridge
    Quiet_Harbour Quiet_Lantern Quiet_Mirror Sleeping_Lantern Sleeping_Meadow Sleeping_Mirror
    Sleeping_Window Winter_Garden Winter_Lantern Winter_Mirror Winter_Window
    """
)
