"""Jobs that caption many images: a folder of images, or the files of one upload. Each caption is saved in a record.

    folder_job        captions every image of a folder once for each task; resumes, and copies captions to duplicates
    upload_job        captions the images of one upload by background requests to a serving engine
    job_progress      how far either is
    records           what a record has: image, task, and caption or error; export: records as JSON, CSV or a zip
    output_log        the file of records, which uses log_file and durable_files
    image_reader      reads, hashes and preprocesses images ahead of the model in a few threads
    folder_captioner  runs the engine core in the caller's thread
    folder_listing    finds the images of a folder; folder_identity: checks that a log belongs to the folder
    upload_archive    lists the images in uploaded files and zips; zip_names: decodes the names in a zip
    outputs           the other files that are made from the records: text files, tar shards, data sets

Depends on serving and on the engine; must not import apps.
"""
