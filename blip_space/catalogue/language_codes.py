"""The languages that models are trained on, by their codes.

Depends on nothing; the names of languages are in `languages`.
"""

ENGLISH = ("en",)
MBLIP_CODES = """
af am ar az be bg bn ca ceb cs cy da de el en eo es et eu fa fi fil fr ga gd gl gu ha hi ht hu hy id ig is it iw ja jv
ka kk km kn ko ku ky lb lo lt lv mg mi mk ml mn mr ms mt my ne nl no ny pa pl ps pt ro ru sd si sk sl sm sn so sq sr st
su sv sw ta te tg th tr uk ur uz vi xh yi yo zh zu
"""
MBLIP_LANGUAGES: tuple[str, ...] = tuple(MBLIP_CODES.split())
"""Those of mBLIP: all of `languages`, which a test checks."""
