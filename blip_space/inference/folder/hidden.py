"""temporary"""


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "@eaDir") for part in name.split("/"))
