"""Many images, one record each: a folder of images, or the files of one upload.

    folder_job        every image of a folder, once for each task; resumes, copies the captions of duplicates
    upload_job        the images of one upload, as background requests of a serving engine
    records           one image, one task and its caption or error; export writes records as JSON, CSV or a zip
    output_log        the file of records, on log_file and durable_files
    image_reader      images read, hashed and decoded ahead of the model by a few threads
    folder_captioner  the engine core in the caller's thread
    folder_listing    which files of a folder are its images; folder_identity: whether the records are of this folder
    upload_archive    uploaded files and zips as images that are still to be read; zip_names: the names in a zip
    outputs           what else is written from the records: text files, tar shards, data sets

Depends on serving and on the engine; must not import apps.
"""
