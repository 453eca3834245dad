#!/usr/bin/env python3
"""Gets libtorch out of PyTorch's wheel: resolve, fetch, verify, unpack. `fdl libtorch download` starts it.

pip does the resolving and the talking, so indexes, mirrors, proxies, certificates and credentials are those of its
configuration. What pip doesn't do is going on with an interrupted download of half a gigabyte; that part is here. pip
has no public interface in Python: the names used below have been the same from 19.3 to 26. When they are gone, `pip
download` does the work, without resuming.

The result is one line of JSON on stdout; progress and errors go to stderr. Exit codes are fdl's.
"""
import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
import zipfile

FAILED, MISSING, DIFFERS, NETWORK, INTERRUPTED = 1, 3, 4, 5, 130
CHUNK = 1 << 18
RETRIES = (2, 4, 8)  # seconds before each new try
# What libtorch_cpu itself loads of a CUDA wheel's neighbours; a machine without a GPU needs no other.
CPU_NEIGHBOURS = ("nvidia-cuda-runtime", "nvidia-cuda-cupti")
# Libraries of torch/lib that are of no use there, or only for Python.
PYTHON_LIBRARIES = re.compile(r"lib(torch_python|shm|shm_windows)\b")
CUDA_LIBRARIES = re.compile(r"lib(torch_cuda|torch_cuda_linalg|c10_cuda|caffe2_nvrtc|torch_nvshmem|torch)\.so")


class Failure(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def say(text):
    print(text, file=sys.stderr, flush=True)


def megabytes(count):
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


class Index:
    """Package index through pip's configuration."""

    def __init__(self, url):
        from pip._internal.cli.cmdoptions import make_target_python
        from pip._internal.commands import create_command

        machine = platform.machine()
        libc, version = platform.libc_ver()
        if libc != "glibc":
            raise Failure(MISSING, "wheels of libtorch need glibc; set LIBTORCH to a folder you built")
        # cp312 is arbitrary: only C++ files are used.
        words = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--python-version", "3.12", "--implementation",
                 "cp", "--abi", "cp312", "--dest", ".", "-q"]
        for minor in range(int(version.split(".")[1]), 16, -1):
            words += ["--platform", f"manylinux_2_{minor}_{machine}"]
        words += ["--platform", f"manylinux2014_{machine}"]
        if url:
            words += ["--index-url", url]
        command = create_command("download")
        self.context = command.main_context()
        self.context.__enter__()
        options, _ = command.parse_args(words + ["torch"])
        self.session = command.get_default_session(options)
        self.finder = command._build_package_finder(
            options=options, session=self.session, target_python=make_target_python(options),
            ignore_requires_python=True)
        self.machine = machine

    def find(self, name, specifier):
        from pip._vendor.packaging.specifiers import SpecifierSet

        best = self.finder.find_best_candidate(name, SpecifierSet(specifier)).best_candidate
        if best is None:
            versions = sorted({c.version for c in self.finder.find_all_candidates(name)})
            if not versions:
                self.reach(name)
                raise Failure(NETWORK, f"the index has no {name} for linux-{self.machine}")
            raise Failure(NETWORK, f"the index has {name} {versions[-1]} but not {specifier.lstrip('=')} for "
                          f"linux-{self.machine}; `--version {versions[-1]}` asks for that one")
        return best

    def reach(self, name):
        """Raises when the index can't be reached: pip's finder takes that for an empty list."""
        for url in self.finder.index_urls:
            if url.startswith("file:"):
                continue
            try:
                answer = self.session.get(f"{url.rstrip('/')}/{name}/")
            except Exception as error:  # whatever the network stack raises
                raise Failure(NETWORK, f"can't reach any source of lib{name}: the package index: {error}\n"
                              "offline? unpack a libtorch and set LIBTORCH, or --from FILE") from None
            if answer.status_code >= 400 and answer.status_code != 404:
                raise Failure(NETWORK, f"can't reach any source of lib{name}: the package index: HTTP "
                              f"{answer.status_code}\noffline? unpack a libtorch and set LIBTORCH, or --from FILE")


class Progress:
    def __init__(self, name, total):
        self.name, self.total, self.start, self.tenth, self.last = name, total, None, -1, 0.0
        self.tty = sys.stderr.isatty()

    def show(self, done, end=False):
        now = time.monotonic()
        if self.start is None:
            self.start = (now, done)
        share = done / self.total if self.total else 0
        rate = (done - self.start[1]) / max(now - self.start[0], 1e-3)
        if self.tty and (end or now - self.last > 0.2):
            self.last = now
            left = (self.total - done) / rate if rate > 0 and self.total else 0
            print(f"\r  {share:4.0%}  {megabytes(done)} of {megabytes(self.total)}  {rate / 1e6:.1f} MB/s  "
                  f"{left:.0f} s left \033[K", end="\n" if end else "", file=sys.stderr, flush=True)
        elif not self.tty and self.total > 50e6 and int(share * 10) > self.tenth:
            self.tenth = int(share * 10)
            say(f"  {self.tenth * 10:3d}%  {megabytes(done)} of {megabytes(self.total)}")


def digest(path):
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            whole.update(chunk)
    return whole.hexdigest()


def fetch(session, url, name, sha256, cache):
    """The file at `url`, whole and verified, in the cache. A half-fetched one goes on where it stopped."""
    path = os.path.join(cache, name)
    if os.path.exists(path):
        if digest(path) == sha256:
            return path
        os.remove(path)
    part, state = path + ".part", path + ".part.json"
    try:
        with open(state) as file:
            same = json.load(file)["sha256"] == sha256
    except (OSError, ValueError, LookupError, TypeError):
        same = False
    if os.path.exists(part) and not same:
        say("  the file on the server is another one than at the last try; starting from the beginning")
        os.remove(part)
    with open(state, "w") as file:
        json.dump({"url": url, "sha256": sha256}, file)
    pauses = list(RETRIES)
    while True:
        done = os.path.getsize(part) if os.path.exists(part) else 0
        try:
            size = transfer(session, url, name, part, done)
            break
        except Failure:
            raise
        except KeyboardInterrupt:
            have = os.path.getsize(part) if os.path.exists(part) else 0
            raise Failure(INTERRUPTED, f"stopped at {megabytes(have)}; the same command goes on from there") from None
        except OSError as error:  # requests' errors and the sockets' are OSErrors; so is a full disk
            if getattr(error, "errno", None) in (28, 122):
                raise Failure(FAILED, f"write failed in {cache}: no space left") from None
            have = os.path.getsize(part) if os.path.exists(part) else 0
            if have > done:
                pauses = list(RETRIES)
            if not pauses:
                raise Failure(NETWORK, f"{name}: {error}; the same command goes on at {megabytes(have)}") from None
            say(f"  interrupted at {megabytes(have)}; trying again in {pauses[0]} s")
            time.sleep(pauses.pop(0))
        except Exception as error:  # urllib3's own, which aren't OSErrors, mean a broken connection as well
            have = os.path.getsize(part) if os.path.exists(part) else 0
            if have > done:
                pauses = list(RETRIES)
            if not pauses:
                raise Failure(NETWORK, f"{name}: {error}; the same command goes on at {megabytes(have)}") from None
            say(f"  interrupted at {megabytes(have)}; trying again in {pauses[0]} s")
            time.sleep(pauses.pop(0))
    have = os.path.getsize(part)
    if size is not None and have != size:
        os.remove(part)
        raise Failure(DIFFERS, f"download is {have} bytes, expected {size}")
    got = digest(part)
    if got != sha256:
        os.remove(part)
        os.remove(state)
        raise Failure(DIFFERS, f"SHA-256 differs: expected {sha256}, got {got}; the file was deleted")
    os.replace(part, path)
    os.remove(state)
    return path


def transfer(session, url, name, part, done):
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with session.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code == 416:  # nothing after `done`: the file was whole already
            return None
        if answer.status_code >= 500:
            raise OSError(f"HTTP {answer.status_code}")
        if answer.status_code >= 400:
            raise Failure(NETWORK, f"HTTP {answer.status_code} for {name}")
        if done and answer.status_code != 206:
            say("  the server doesn't continue downloads; starting from the beginning")
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        say(f"{'going on with' if done else 'fetching'} {name}" + (f" ({megabytes(total)})" if total else ""))
        progress = Progress(name, total or 0)
        with open(part, "ab" if done else "wb") as file:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                done += len(chunk)
                progress.show(done)
        progress.show(done, end=True)
        if total is not None and done < total:
            raise OSError("the connection was cut")
        return total


def download_by_pip(requirement, cache, url):
    """When pip's insides have changed: it resolves, fetches and verifies by itself, from the beginning each time."""
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", cache,
             "--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
    for minor in range(int(platform.libc_ver()[1].split(".")[1]), 16, -1):
        words += ["--platform", f"manylinux_2_{minor}_{platform.machine()}"]
    words += ["--platform", f"manylinux2014_{platform.machine()}"]
    if url:
        words += ["--index-url", url]
    before = set(os.listdir(cache))
    if subprocess.run(words + [requirement], stdout=sys.stderr).returncode:
        raise Failure(NETWORK, f"pip could not download {requirement}")
    stem = plain(requirement.split("=")[0]).replace("-", "_")
    names = [n for n in os.listdir(cache) if n.lower().startswith(stem + "-") and n.endswith(".whl")]
    new = [n for n in names if n not in before] or names
    return os.path.join(cache, new[0])


def metadata(path):
    with zipfile.ZipFile(path) as wheel:
        for name in wheel.namelist():
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA"):
                return wheel.read(name).decode()
    raise Failure(DIFFERS, f"{os.path.basename(path)} has no METADATA; not a wheel?")


def field(text, name):
    match = re.search(rf"^{name}: *(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None


def requirements(text, extras=()):
    """(name, specifier, extras) of each requirement whose marker holds here."""
    from pip._vendor.packaging.requirements import Requirement

    for line in re.findall(r"^Requires-Dist: *(.+)$", text, re.MULTILINE):
        wanted = Requirement(line)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in (*extras, "")):
            continue
        yield plain(wanted.name), str(wanted.specifier), tuple(sorted(wanted.extras))


def neighbours(text, gpu, get):
    """The NVIDIA wheels that torch's METADATA asks for, directly or through the meta-package cuda-toolkit[...]."""
    found = {}
    for name, specifier, extras in requirements(text):
        if name == "cuda-toolkit":
            for inner, inner_specifier, _ in requirements(metadata(get(name, specifier)), extras):
                if inner.startswith("nvidia-"):
                    found.setdefault(inner, inner_specifier)
        elif name.startswith("nvidia-"):
            found.setdefault(name, specifier)
    if not gpu:
        found = {n: s for n, s in found.items() if n.removesuffix("-cu12").removesuffix("-cu13") in CPU_NEIGHBOURS}
    return found


def keep(name, gpu):
    """Whether the wheel's entry is part of a libtorch."""
    base = os.path.basename(name)
    top = name.split("/")[0]
    if top.endswith(".dist-info"):
        return base == "METADATA" or re.match(r"(?i)(license|notice|copying|third)", base) or "/licenses/" in name
    if base.endswith((".py", ".pyi", ".pyc")) and name != "torch/version.py":
        return False
    if name == "torch/version.py" or name.startswith("torch.libs/"):
        return True
    if name.startswith("torch/lib/"):
        return not PYTHON_LIBRARIES.match(base) and (gpu or not CUDA_LIBRARIES.match(base))
    if name.startswith(("torch/include/", "torch/share/cmake/")):
        return True
    return top == "nvidia" and (gpu or "/lib/" in name)


def unpack(path, into, gpu):
    """Checks every entry's path before the first one is written."""
    with zipfile.ZipFile(path) as wheel:
        for info in wheel.infolist():
            parts = info.filename.split("/")
            if info.filename.startswith("/") or ".." in parts or "\\" in info.filename:
                raise Failure(DIFFERS, f"archive entry '{info.filename}' leaves the folder; refused")
        chosen = [i for i in wheel.infolist() if not i.is_dir() and keep(i.filename, gpu)]
        need, free = sum(i.file_size for i in chosen), os.statvfs(into)
        free = free.f_bavail * free.f_frsize
        if need * 1.05 > free:
            raise Failure(FAILED, f"{megabytes(need)} needed in {into}, {megabytes(free)} free")
        for info in chosen:
            wheel.extract(info, into)
            if ".so" in os.path.basename(info.filename):
                os.chmod(os.path.join(into, info.filename), 0o755)


def get(arguments):
    os.makedirs(arguments.cache, exist_ok=True)
    used = []
    try:
        index = Index(arguments.index)
    except (ImportError, AttributeError, TypeError):
        index = None

    def wheel(name, specifier):
        if index is None:
            path = download_by_pip(name + specifier, arguments.cache, arguments.index)
            used.append(path)
            return path
        link = index.find(name, specifier).link
        if link.hash_name != "sha256":
            raise Failure(DIFFERS, f"no published hash for {link.filename}; pass --from FILE --sha256 HEX")
        source.setdefault("url", re.sub(r"//[^/@]*@", "//", link.url_without_fragment))
        source.setdefault("sha256", link.hash)
        if arguments.dry_run:
            return link.filename
        path = fetch(index.session, link.url_without_fragment, link.filename, link.hash, arguments.cache)
        used.append(path)
        return path

    source = {}
    if arguments.file:
        torch = arguments.file
        got = digest(torch)
        if arguments.sha256 and got != arguments.sha256.lower():
            raise Failure(DIFFERS, f"SHA-256 differs: expected {arguments.sha256.lower()}, got {got}")
        source = {"url": "", "sha256": got}
        if not zipfile.is_zipfile(torch):
            raise Failure(DIFFERS, f"{torch} is not a wheel")
    else:
        torch = wheel("torch", f"=={arguments.version}")
    if arguments.dry_run:
        print(json.dumps({"version": arguments.version, "files": used, **source}))
        return
    text = metadata(torch)
    version = field(text, "Version")
    if not arguments.file and version.split("+")[0] != arguments.version.split("+")[0]:
        raise Failure(DIFFERS, f"the archive holds {version}, not {arguments.version}")
    unpack(torch, arguments.into, arguments.gpu)
    for name, specifier in sorted(neighbours(text, arguments.gpu, wheel).items()):
        unpack(wheel(name, specifier), arguments.into, arguments.gpu)
    print(json.dumps({"version": version, "files": used, **source}))


def main():
    parser = argparse.ArgumentParser(description="get libtorch out of PyTorch's wheel")
    parser.add_argument("--version", default="")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--into", required=True)
    parser.add_argument("--index", default="")
    parser.add_argument("--file", default="")
    parser.add_argument("--sha256", default="")
    parser.add_argument("--dry-run", action="store_true", help="resolve torch's wheel and stop")
    parser.add_argument("--gpu", action="store_true", help="with the CUDA libraries")
    arguments = parser.parse_args()
    try:
        get(arguments)
    except Failure as failure:
        say(f"error: {failure}")
        return failure.code
    except KeyboardInterrupt:
        say("stopped; the same command goes on")
        return INTERRUPTED
    except PermissionError as error:
        say(f"error: can't write to {error.filename}: permission denied; set FLODL_HOME to a folder of yours")
        return FAILED
    except OSError as error:
        say(f"error: {error}")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
