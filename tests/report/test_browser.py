"""A real browser opens a report: every picture shows, nothing is wrong, nothing is too wide.

The screenshots are kept in $HVAX_ARTIFACTS where that is set. Without a browser these are skipped,
unless $HVAX_NEEDS_BROWSER is set.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jax
import matplotlib.image
import pytest

from hvax.report.report import write_page
from reports_for_tests import tiny_run

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None and "HVAX_NEEDS_BROWSER" not in os.environ,
    reason="needs Chromium: no chromium, chromium-browser or google-chrome in PATH",
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
)  # fmt: skip
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
PROBE = """<script>
addEventListener("load", () => {
  const pictures = [...document.images].map((image) => ({
    alt: image.alt, width: image.naturalWidth, height: image.naturalHeight,
    shown: image.getBoundingClientRect().width,
    dark: image.previousElementSibling?.srcset === image.currentSrc,
    themed: image.parentElement.tagName === "PICTURE",
  }));
  const inner = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll("main *")].filter((element) =>
    !element.closest(".scroll") && element.getBoundingClientRect().right > inner + 1);
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify({
    pictures, inner, scroll: document.documentElement.scrollWidth,
    wide: wide.map((element) => element.outerHTML.slice(0, 200)),
    paper: getComputedStyle(document.body).backgroundColor,
  });
  document.body.append(result);
});
</script></body>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(tiny_run(), path, key=jax.random.key(0))
    return path


def browse(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


def probed(report: Path, folder: Path, *flags: str) -> dict:
    """What a script finds in a copy of the page whose policy lets scripts run."""
    text = report.read_text(encoding="utf-8")
    policy = "<meta http-equiv="
    assert policy in text
    copy = folder / "copy.html"
    copy.write_text(re.sub(f"{policy}[^\\n]*", "", text).replace("</body>", PROBE))
    done = browse(copy, folder, "--dump-dom", *flags)
    assert "CONSOLE" not in done.stderr, done.stderr
    (found,) = re.findall(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    return json.loads(html.unescape(found))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_every_picture_shows(report, tmp_path, theme, width):
    found = probed(report, tmp_path, theme, f"--window-size={width},900")
    assert len(found["pictures"]) > 20
    for picture in found["pictures"]:
        assert picture["width"] > 0 and picture["height"] > 0, picture["alt"]
        assert 20 < picture["shown"] <= found["inner"]
        assert picture["dark"] == (picture["themed"] and theme == DARK)
    assert found["scroll"] <= found["inner"], f"too wide for {width} pixels: {found['wide']}"
    assert found["wide"] == []
    assert found["paper"] == ("rgb(23, 26, 31)" if theme == DARK else "rgb(255, 255, 255)")


@pytest.mark.parametrize(
    ("name", "size", "theme"),
    [("light", "1200,6400", LIGHT), ("dark", "1200,6400", DARK), ("phone", "390,9000", LIGHT)],
)
def test_the_page_itself_opens_without_a_word(report, tmp_path, name, size, theme):
    folder = Path(os.environ.get("HVAX_ARTIFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    shot = folder / f"report-{name}.png"
    done = browse(report, tmp_path, theme, f"--window-size={size}", f"--screenshot={shot}")
    assert "CONSOLE" not in done.stderr, done.stderr
    pixels = matplotlib.image.imread(shot)
    assert pixels.shape[1] == int(size.split(",")[0])
    assert pixels[..., :3].std() > 0.02, "a blank page"
