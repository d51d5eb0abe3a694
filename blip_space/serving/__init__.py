"""Serves several models to many users: the engine's interface for apps, and the thread that drives the cores.

protocol        EngineProtocol, the only engine interface that apps and their tests use, and EngineStatus
response        ResponseStream: passes one answer from the engine's thread to its reader
offered_models  the models that users may choose, by name
preparations    what each model needs to prepare a request, loaded once
threaded        ThreadedEngine: a bounded queue in front of one thread
driver          the work of that thread: dispatch tasks, load models, step the cores, publish
process_engine  ProcessEngine: a ThreadedEngine in a process of its own, started again if it ends
child_process, engine_process, process_messages
                that process as seen from here, what runs in it, and what they send each other
task_queue      tasks that are not in a core yet
model_manager   which models are loaded, and which are unloaded to make room
metrics         tokens per second, first tokens, cache hits
load_progress   the progress of loading a model

Depends on the engine; must not import jobs or apps.
"""
