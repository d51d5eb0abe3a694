"""Models that another server computes, which speaks OpenAI's protocol: `--model openai:URL#NAME`.

    messages     a request becomes the protocol's messages, within an estimate of the context window
    connection   one request to the server and its stream; the only importer of openai
    attempts     when a failed request is sent again
    queue        which request is sent next
    engine       `RemoteEngine`, an `EngineProtocol` for one model

Only what a user asks is sent: the image within a bounded size and without metadata, the texts and the options. Must not
import torch or an app.
"""
