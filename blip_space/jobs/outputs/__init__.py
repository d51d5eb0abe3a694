"""What a folder job writes from its records, for the programs that train on them.

output         which files those are, and whether they may be written
text_files     one text file beside each image; text_form: its name and content
written_files  which files this program wrote, so that a person's are kept; corrections: what a person changed
shards         tar shards for webdataset
datasets       data sets for the datasets library and pycocoevalcap
"""
