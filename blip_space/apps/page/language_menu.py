"""The list of the page's languages, each by its own name. Depends on the languages of the page only."""

from __future__ import annotations

from blip_space.apps import locales
from blip_space.apps.locales import text
from blip_space.apps.page import static


def language_menu() -> str:
    """The list as HTML. Its script (`language.js`) shows the page in the language that is chosen."""
    items = "".join(
        static.render_template("language_item.html", tag=tag, direction=locale.direction, own_name=locale.own_name)
        for tag, locale in sorted(locales.available().items(), key=lambda item: item[1].own_name.casefold())
    )
    label, chosen = text("page_language"), text("own_name")
    return static.render_template("language_menu.html", label=label, chosen=chosen).replace("@items", items)
