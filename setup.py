"""The packages of the wheel: blip_space, and assets/ as blip_space.assets, for a package that has its model."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["blip_space", "blip_space.*"]), "blip_space.assets"],
    package_dir={"blip_space.assets": "assets"},
    package_data={
        "blip_space": ["py.typed"],
        "blip_space.assets": ["examples/*", "locales/*", "page/*", "page/*/*", "tiny/*"],
    },
)
