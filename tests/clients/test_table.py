"""docs/clients.md says what the clients did. Runs last, on what the other tests found."""

import pytest
import table


def test_the_committed_table_is_what_the_clients_did(clients, pytestconfig):
    if pytestconfig.getoption("--write-docs"):
        table.replace(table.DOCUMENT, table.facts(clients))
    written = table.committed(table.DOCUMENT.read_text())
    if not clients:
        pytest.fail("no client ran: this compares what the others found, so run it with them")
    found = table.committed(table.render(table.facts(clients)))
    differs = {name: (written.get(name), cells) for name, cells in found.items() if written.get(name) != cells}
    assert not differs, f"docs/clients.md differs (committed, found): {differs}; `./tests/run --write-docs` writes it anew"
    if not (pytestconfig.option.keyword or pytestconfig.option.file_or_dir):
        assert set(written) == set(found), "docs/clients.md lists other clients than were tried"
