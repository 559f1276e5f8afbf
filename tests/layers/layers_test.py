#!/usr/bin/env python3
"""layers.py finds each kind of broken rule in a small tree that is made for it, and nothing in a tree that keeps them."""
import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import layers  # noqa: E402

GOOD = {
    "buffer/record.h": "#include <string>\n",
    "buffer/result.h": "",
    "buffer/store.h": '#include "buffer/record.h"\n',
    "buffer/store.cpp": '#include "buffer/store.h"\n#include <lmdb.h>\n#include <sys/stat.h>\n#include <fmt/format.h>\n',
    "config/settings.h": '#include "buffer/record.h"\n',
    "config/toml.cpp": '#include "config/settings.h"\n#include <toml++/toml.h>\n',
    "drivers/driver.h": '#include "buffer/result.h"\n',
    "drivers/table.h": "",
    "drivers/table.cpp": '#include "drivers/sysfs.h"\n#include "drivers/mqtt/driver.h"\n',
    "drivers/sysfs.h": '#include "drivers/driver.h"\n',
    "drivers/sysfs.cpp": '#include "drivers/sysfs.h"\n#include "config/settings.h"\n#include <spdlog/spdlog.h>\n',
    "drivers/mqtt/gate.h": "",
    "drivers/mqtt/driver.h": '#include "drivers/mqtt/gate.h"\n',
    "drivers/mqtt/driver.cpp": "#include <mqtt/async_client.h>\n",
    "agent/daemon/agent.h": '#include "drivers/table.h"\n#include "buffer/store.h"\n',
    "agent/kafka/sink.cpp": "  #  include <librdkafka/rdkafka.h>\n",
    "tests/catch.h": "#include <catch2/catch.hpp>\n",
    "tests/agent/x_test.cpp": '#include "tests/catch.h"\n#include <librdkafka/rdkafka.h>\n',
}

# One file more or changed, and what must be said of it.
BAD = [
    ("buffer/up.cpp", '#include "config/settings.h"\n', "buffer/ includes only buffer/"),
    ("buffer/up.h", '#include "agent/daemon/agent.h"\n', "buffer/ includes only buffer/"),
    ("config/up.h", '#include "drivers/driver.h"\n', "config/ includes only"),
    ("drivers/up.cpp", '\n#include "agent/daemon/agent.h"\n', "drivers/ includes only"),
    ("drivers/deep.cpp", '#include "buffer/store.h"\n', "only buffer/record.h"),
    ("drivers/mqtt/other.cpp", '#include "drivers/sysfs.h"\n', "another driver"),
    ("drivers/sysfs.cpp", '#include "drivers/mqtt/gate.h"\n', "another driver"),
    ("agent/up.cpp", '#include "tests/catch.h"\n', "agent/ includes only"),
    ("buffer/leak.h", "#include <lmdb.h>\n", "never included by a header"),
    ("agent/kafka/leak.h", "#include <librdkafka/rdkafka.h>\n", "never included by a header"),
    ("agent/daemon/log.h", "#include <spdlog/spdlog.h>\n", "never included by a header"),
    ("agent/daemon/leak.cpp", "#include <librdkafka/rdkafka.h>\n", "agent/kafka/ only"),
    ("config/leak.cpp", "#include <lmdb.h>\n", "buffer/ only"),
    ("buffer/log.cpp", "#include <spdlog/spdlog.h>\n", "agent/, drivers/ only"),
    ("drivers/leak.cpp", "#include <mqtt/async_client.h>\n", "drivers/mqtt/ only"),
    ("buffer/new.cpp", "#include <boost/asio.hpp>\n", "nobody owns this header"),
    ("buffer/relative.cpp", '#include "store.h"\n', "not a path from the root"),
    ("tests/agent/y_test.cpp", "#include <catch2/catch.hpp>\n", "by tests/catch.h only"),
]


def check(tree):
    with tempfile.TemporaryDirectory() as root:
        for path, text in tree.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        return layers.problems(root)


found, files = check(GOOD)
assert found == [] and files == len(GOOD), found
for path, text, words in BAD:
    found, _ = check({**GOOD, path: text})
    assert len(found) == 1, (path, found)
    line = text[: text.index("#include")].count("\n") + 1
    assert found[0].startswith(f"{path}:{line}: ") and words in found[0], (path, found)
print(f"{len(BAD)} broken trees told from a good one")
