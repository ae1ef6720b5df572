"""The families of attacks by name."""

from collections.abc import Mapping

from adversary import archives, checkpoints, data, folders, grammar, http, predictions, special_files, tables
from adversary.attack import Call, Family
from adversary.known import OFFENCES


def _offend(number: int) -> Family:
    return lambda chance, place: iter([Call("a known offence", list(OFFENCES.values())[number])])


# Each is one offence, for the test of the oracle; no run of attacks contains them.
KNOWN: Mapping[str, Family] = {f"known{number}": _offend(number) for number in range(len(OFFENCES))}
FAMILIES: Mapping[str, Family] = {
    "bytes": tables.mutate_bytes,
    "columns": tables.replace_columns,
    "lists": predictions.change_lists,
    "records": folders.change_records,
    "names": folders.add_names,
    "special": special_files.put_special_file,
    "sweep": grammar.write_sweep_files,
    "set": grammar.set_options,
    "cluster": grammar.write_cluster_files,
    "query": grammar.ask_oddly,
    "archive": archives.fetch_archives,
    "head": archives.reply_as_head,
    "checkpoint": checkpoints.damage_checkpoints,
    "data": data.damage_data,
    "http": http.send_requests,
}
