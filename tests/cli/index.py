"""A package index on the loopback with the failures that downloads meet. index.py FOLDER: makes FOLDER/files/torch-...whl,
serves it, writes its port to FOLDER/port and each request to FOLDER/log. Files in FOLDER switch failures on:
stall (half of the file, then nothing), flip (a wrong byte), norange (no continuing), slow (a pause before the file)."""
import hashlib
import http.server
import os
import platform
import subprocess
import sys
import time
import zipfile

folder = sys.argv[1]


def wheel(name, version, extra=(), leave_out=()):
    path = os.path.join(folder, "files", name)
    library = os.path.join(folder, "lib.so")
    with open(os.path.join(folder, "lib.c"), "w") as file:
        file.write("int nothing(void) { return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, os.path.join(folder, "lib.c")], check=True)
    with open(library, "rb") as file:
        code = file.read()
    entries = {
        "torch/lib/libtorch_cpu.so": code,
        "torch/lib/libc10.so": code,
        "torch/lib/libtorch_python.so": code,
        "torch/include/ATen/ATen.h": b"",
        "torch/include/c10/core/Device.h": b"",
        "torch/include/torch/csrc/api/include/torch/all.h": os.urandom(1 << 20),
        "torch/version.py": f"__version__ = '{version}'\ncuda = None\n".encode(),
        "torch/nn.py": b"",
        f"torch-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
        f"Requires-Dist: nvidia-nothing==1; sys_platform == 'win32'\nRequires-Dist: sympy\n".encode(),
    }
    entries = {name: data for name, data in entries.items() if name not in leave_out}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in [*entries.items(), *extra]:
            archive.writestr(entry, data)
    return path


def on(switch):
    return os.path.exists(os.path.join(folder, switch))


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        with open(os.path.join(folder, "log"), "a") as file:
            file.write(f"{self.path} {self.headers.get('Range', '')}\n")
        if self.path == "/simple/torch/":
            links = "".join(f'<a href="/files/{n}#sha256={h}">{n}</a>\n' for n, h in sums.items())
            self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        elif self.path.startswith("/files/") and os.path.basename(self.path) in sums:
            with open(os.path.join(folder, self.path[1:]), "rb") as file:
                self.whole(file.read())
        else:
            self.answer(404, b"", "text/plain")

    def whole(self, data):
        if on("slow"):
            time.sleep(3)
        if on("flip"):
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = self.headers.get("Range")
        if asked and not on("norange"):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.answer(206, data[start:], "application/zip", f"bytes {start}-{len(data) - 1}/{len(data)}")
        elif on("stall"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            while on("stall"):
                time.sleep(0.1)
        else:
            self.answer(200, data, "application/zip")

    def answer(self, status, data, kind, piece=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if piece:
            self.send_header("Content-Range", piece)
        self.end_headers()
        self.wfile.write(data)


os.makedirs(os.path.join(folder, "files"))
tag = f"cp312-cp312-manylinux_2_17_{platform.machine()}"
served = [wheel(f"torch-2.11.0-{tag}.whl", "2.11.0"), wheel(f"torch-2.12.0-{tag}.whl", "2.11.0"),
          wheel(f"torch-2.10.0-{tag}.whl", "2.10.0", leave_out=["torch/lib/libc10.so"])]
wheel("escape.whl", "2.11.0", extra=[("../outside", b"x")])
sums = {os.path.basename(path): hashlib.sha256(open(path, "rb").read()).hexdigest() for path in served}
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(os.path.join(folder, "port.new"), "w") as file:
    file.write(str(server.server_address[1]))
os.rename(os.path.join(folder, "port.new"), os.path.join(folder, "port"))
server.serve_forever()
