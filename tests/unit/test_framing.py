"""Where the schema's id stands in a record, in every framing that a registry's serialisers write."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Reject
from consumer.events.framing import Framing, SchemaRef, framed
from consumer.planning import schema_refs, take_in
from consumer.planning.intake import Undecodable
from tests.unit.records import TOPIC, record, table

BODY = b"\x02\x0cavro"
GLOBAL_ID = (("apicurio.value.globalId", (7).to_bytes(8, "big")), ("apicurio.value.encoding", b"BINARY"))


@given(st.integers(1, 2**31 - 1))
@pytest.mark.semantics(
    "wire forms",
    "framing: Confluent and Apicurio 4 bytes, Apicurio 8 bytes, Apicurio headers",
    "each is told by its bytes or headers",
)
def test_confluent_and_apicurio_3_write_a_content_id_in_four_bytes(number: int) -> None:
    payload = b"\0" + number.to_bytes(4, "big") + BODY
    expected = (SchemaRef("content", number), 5)
    assert framed(payload, (), "value", "auto") == framed(payload, (), "key", "confluent") == expected


@given(st.integers(1, 2**32 - 1))
@pytest.mark.semantics("wire forms", "framing: Confluent and Apicurio 4 bytes, Apicurio 8 bytes, Apicurio headers")
def test_apicurio_2_writes_a_global_id_in_eight_bytes_which_auto_tells_by_its_zeros(number: int) -> None:
    payload = b"\0" + number.to_bytes(8, "big") + BODY
    expected = (SchemaRef("global", number), 9)
    assert framed(payload, (), "value", "auto") == framed(payload, (), "key", "apicurio8") == expected


def test_a_global_id_beyond_four_bytes_is_read_where_the_setting_says_so() -> None:
    payload = b"\0" + (2**40).to_bytes(8, "big") + BODY
    assert framed(payload, (), "value", "apicurio8") == (SchemaRef("global", 2**40), 9)


@pytest.mark.parametrize("framing", ["auto", "headers"])
@pytest.mark.semantics("wire forms", "framing: Confluent and Apicurio 4 bytes, Apicurio 8 bytes, Apicurio headers")
def test_headers_name_a_global_or_a_content_id_and_the_whole_payload_is_the_body(framing: Framing) -> None:
    assert framed(BODY, GLOBAL_ID, "value", framing) == (SchemaRef("global", 7), 0)
    content = (("apicurio.key.contentId", (9).to_bytes(8, "big")),)
    assert framed(BODY, content, "key", framing) == (SchemaRef("content", 9), 0)


def test_headers_go_before_the_magic_byte_and_the_last_of_a_name_counts() -> None:
    twice = (("apicurio.value.globalId", (1).to_bytes(8, "big")), *GLOBAL_ID)
    assert framed(b"\0\0\0\0\5" + BODY, twice, "value", "auto") == (SchemaRef("global", 7), 0)
    assert framed(b"\0\0\0\0\5" + BODY, twice, "value", "confluent") == (SchemaRef("content", 5), 5)


def test_headers_of_the_value_say_nothing_of_the_key() -> None:
    assert framed(b'{"id": 1}', GLOBAL_ID, "key", "auto") is None
    assert framed(b"\0\0\0\0\5" + BODY, GLOBAL_ID, "key", "auto") == (SchemaRef("content", 5), 5)


@pytest.mark.parametrize("framing", ["auto", "confluent", "apicurio8", "headers"])
@pytest.mark.parametrize("payload", [None, b"", b"{}", b' {"op": "c"}', b"null", b"\0", b"\0\0\0\1", b"\xef\xbb\xbf{}"])
def test_json_tombstones_and_stumps_are_no_avro(payload: bytes | None, framing: Framing) -> None:
    headers = (("__debezium.newkey", b'{"id":2}'), ("apicurio.value.globalId", None), ("apicurio.value.globalId", b"7"))
    assert framed(payload, headers, "value", framing) is None


@given(st.binary(max_size=24), st.sampled_from(["auto", "confluent", "apicurio8", "headers"]))
def test_any_bytes_have_an_answer_and_the_body_lies_inside_them(payload: bytes, framing: Framing) -> None:
    found = framed(payload, (), "value", framing)
    assert found is None or (0 <= found[1] <= len(payload) and found[0].number >= 0)


def test_the_json_encoding_of_avro_is_refused_by_name() -> None:
    headers = (GLOBAL_ID[0], ("apicurio.value.encoding", b"JSON"))
    with pytest.raises(Reject) as refused:
        framed(b"{}", headers, "value", "auto")
    assert (refused.value.stage, refused.value.error_type) == ("decode", "avro_encoding")

    # It asks for no schema, and fails its document alone.
    tables, written = {TOPIC: table()}, msgspec.structs.replace(record(5, "u", {"id": 1}), headers=headers)
    assert schema_refs([written], tables) == set()
    ((arrival,),) = take_in([written], tables, {}).arrivals.values()
    assert isinstance(arrival, Undecodable)
    assert arrival.failure.error_type == "avro_encoding"
