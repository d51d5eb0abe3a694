"""The files that a folder job makes from its records, for training programs.

    output_files     decides which files to write in each format, checks that they may be written, and writes them
    text_files       writes a text file beside each image; text_format: its name and content
    manifest         lists the files that this program wrote, to keep those of users; corrections: what users edited
    shards           writes tar shards for webdataset
    dataset_formats  makes data sets for the datasets library and for pycocoevalcap

Depends on records and the output log; must not import anything that loads models.
"""
