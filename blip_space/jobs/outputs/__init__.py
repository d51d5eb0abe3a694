"""The files that a folder job makes from its records, for the programs that train on them.

    output_files     which files those are, and whether they may be written
    text_files       one text file beside each image; text_format: its name and content
    manifest         which files this program wrote, so that those of users are kept; corrections: what users changed
    shards           tar shards for webdataset
    dataset_formats  data sets for the datasets library and pycocoevalcap

Depends on records and the output log; must not import anything that loads models.
"""
