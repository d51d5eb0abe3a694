"""A folder of images captioned to its end.

files       which files are its images            hidden       what a person does not see
record      one line                              ledger       all lines, and what they answer
log_file    the file of lines                     disk         what survives a loss of power
reader      images on their way to the model      captions     the engine core at work on them
job         the work itself                       same_folder  whether the lines are about this folder
outputs     what is made of the lines             export       JSON, CSV, lines, a zip
trainers    data sets for other libraries         shards       tar shards for webdataset
text_form   a caption as a text file              texts        the text files beside images
written     what this program wrote, and what is a person's
corrections what a person corrected
"""
