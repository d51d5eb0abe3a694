"""Call a server that `python app.py` started: the answer streams, and a second question refers to the first."""

import sys

from gradio_client import Client, handle_file

client = Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860", verbose=False)
image = handle_file("assets/examples/three-blue-circles.png")

job = client.submit(image, "How many circles are there?", language="de", api_name="/chat")
for text in job:  # the whole text so far
    print(text)

history = [
    {"role": "user", "content": "How many circles are there?"},
    {"role": "assistant", "content": job.result()},
]
print(client.predict(image, "What colour are they?", language="de", history=history, api_name="/chat"))
