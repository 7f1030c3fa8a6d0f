"""stages/data/formats/_wordnet.py: names for people."""

from pathlib import Path

from stages.data.formats._wordnet import read_words, titles, words_in_name


def test_titles_are_the_first_names_and_differ():
    words = {
        "n02012849": "crane",
        "n03126707": "crane",
        "n03710637": "maillot",
        "n03710721": "maillot, tank suit",
        "n01440764": "tench, Tinca tinca",
    }
    assert titles([*words, "n99999999"], words) == {
        "n01440764": "tench",
        "n02012849": "crane (n02012849)",
        "n03126707": "crane (n03126707)",
        "n03710637": "maillot",
        "n03710721": "maillot, tank suit",
        "n99999999": "n99999999",
    }


def test_words_are_read_with_tabs_and_spaces(tmp_path: Path):
    (tmp_path / "words.txt").write_text(
        "n01440764\ttench, Tinca tinca\nn01491361 tiger shark\n\nn1 no wnid\nn00000001\n"
    )
    assert read_words(tmp_path / "words.txt") == {"n01440764": "tench, Tinca tinca", "n01491361": "tiger shark"}


def test_words_in_file_names():
    assert words_in_name("a/n01491361_tiger_shark.JPEG") == {"n01491361": "tiger shark"}
    assert words_in_name("n02085620_St._Bernard-dog.JPEG") == {"n02085620": "St. Bernard-dog"}
    assert words_in_name("n01491361_10026.JPEG") == words_in_name("n01491361.JPEG") == words_in_name("dog.jpg") == {}
