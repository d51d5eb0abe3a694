"""Many users in front of models: what they may ask of an engine, and the thread that drives the cores.

protocol        EngineProtocol, which apps and their tests depend on alone; Status
response        ResponseStream: one answer on its way from the engine's thread to its reader
offered         which models users may choose, and by what names
preparations    what each model needs to prepare a request, loaded once
threaded        ThreadedEngine: a bounded queue in front of one thread
driver          what that thread does: hand on requests, load, step the cores, publish
task_queue      requests that no core takes yet
model_manager   which models are loaded, and which one leaves for another
metrics         tokens per second, first tokens, cache hits
load_progress   how far the loading of a model is

Depends on the engine; must not import jobs or apps.
"""
