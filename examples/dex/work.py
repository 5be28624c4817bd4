"""What the jobs do: real stages over real files, each of them a span while it runs.

Whatever computes does so in a worker thread, in steps that are short enough to be given up between
two of them when a job is cancelled.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import attrs
import trio

from sselib import JobChange, JobFailed, JobRunner, Outcome, RunningJob

from .chunking import TOKENIZER, ChunkingOptions, cut, json_of
from .operations import PARSE, children, progress
from .parsing import Block, detect_format, parse_section, read_sections
from .spans import Span, Tracer, now
from .store import Store

MAX_CHUNKS: Final = 20_000  # A result is one JSON document.
_PARSED: Final = 0.8  # of a job's progress, when its sections are parsed


@attrs.frozen
class Workshop:
    """The work of the jobs, over what is in the store.

    All of it can be done again. What was kept by an attempt whose process is gone is kept in the
    same place by the next.
    """

    store: Store

    async def parse(self, job: RunningJob) -> dict[str, str]:
        """Read a document, cut it into blocks and chunks, and keep the result."""
        details, tracer = job.details, Tracer(job)
        source_id = details["source_id"]
        async with tracer.attempt(source_document_id=source_id) as root:
            async with tracer.stage("load_document", root) as stage:
                file = await self.store.file(details["project_id"], source_id)
                if file is None:
                    raise JobFailed("the source document is gone", code="not_found")
                data = await self.store.read_file(file)
                stage.output = {"filename": file.filename, "size_bytes": len(data)}
            async with tracer.stage("detect_format", root) as stage:
                found = detect_format(file.filename, data)
                stage.output = {"format": found}
            async with tracer.stage("parse_blocks", root) as stage:
                blocks = await self.read_blocks(job, tracer, stage, found, data)
                stage.output = dict(Counter(block.kind for block in blocks))
            document = {
                "object": "parse_result",
                "job_id": job.id,
                "format": found,
                "blocks": [attrs.asdict(block) for block in blocks],
            }
            return await self._chunked(job, tracer, root, document)

    async def rechunk(self, job: RunningJob) -> dict[str, str]:
        """Cut what was parsed into other chunks, and keep that as another result."""
        details, tracer = job.details, Tracer(job)
        async with tracer.attempt(parse_result_id=details["parse_result_id"]) as root:
            async with tracer.stage("load_result", root) as stage:
                kept = await self.store.read_result(
                    details["project_id"], details["parse_result_id"]
                )
                if kept is None:
                    raise JobFailed("the parse result is gone", code="not_found")
                old = await trio.to_thread.run_sync(json.loads, kept)
                stage.output = {"blocks": len(old["blocks"])}
            document = {name: old[name] for name in ("object", "format", "blocks")}
            return await self._chunked(job, tracer, root, document | {"job_id": job.id})

    async def parse_all(self, job: RunningJob, runner: JobRunner) -> Outcome:
        """Have each document of a batch parsed by a job of its own, and show their spans.

        The jobs that an earlier attempt has submitted go on.
        """
        details, tracer = job.details, Tracer(job)
        async with tracer.root(source_document_ids=details["source_ids"]) as root:

            async def follow(child_id: str) -> None:
                await self._show_spans(runner, child_id, job)
                counters = progress(job.now)
                if root.metadata != counters:
                    root.metadata = counters
                    await tracer.show(root, coalesce=True)

            async with trio.open_nursery() as nursery:
                for number, source_id in enumerate(details["source_ids"]):
                    child = await runner.submit(
                        self.parse,
                        kind=PARSE,
                        job_id=f"{job.id}-{number}",
                        parent=job.id,
                        details={
                            **details,
                            "source_id": source_id,
                            "span_id": f"{details['span_id']}-{number}",
                            "parent_span_id": root.id,
                        },
                    )
                    nursery.start_soon(follow, child.id)
        made = children(job.now)
        statuses = Counter(child.status for child in made)
        if not statuses["succeeded"]:
            raise JobFailed(f"none of {len(made)} documents could be parsed", code="batch")
        return Outcome(
            {
                "parse_result_ids": [
                    child.result["parse_result_id"] for child in made if child.result
                ]
            },
            status="succeeded" if statuses["succeeded"] == len(made) else "partially_succeeded",
        )

    async def read_blocks(
        self, job: RunningJob, tracer: Tracer, stage: Span, name: str, data: bytes
    ) -> list[Block]:
        """Cut a document in the format of that name into blocks, a section at a time."""
        sections = await trio.to_thread.run_sync(read_sections, name, data)
        blocks: list[Block] = []
        for number, section in enumerate(sections, 1):
            async with tracer.stage("parse_section", stage, title=section.title) as part:
                new = await trio.to_thread.run_sync(parse_section, section)
                blocks += new
                part.output = {"blocks": len(new)}
            await job.progress(
                _PARSED * number / len(sections), f"parsed section {number} of {len(sections)}"
            )
        if not blocks:
            raise JobFailed("the document holds no text", code="empty")
        return blocks

    async def _chunked(
        self, job: RunningJob, tracer: Tracer, root: Span, document: dict[str, Any]
    ) -> dict[str, str]:
        options = ChunkingOptions(**job.details["chunking_options"])
        async with tracer.stage("chunk", root, **attrs.asdict(options)) as stage:
            text = "\n\n".join(block["text"] for block in document["blocks"])
            chunks = await trio.to_thread.run_sync(cut, text, options, MAX_CHUNKS)
            stage.output = {"chunks": len(chunks), "tokens": sum(each.tokens for each in chunks)}
        async with tracer.stage("store_result", root) as stage:
            result = document | {
                "created_at": now(),
                "chunking_options": attrs.asdict(options),
                "tokenizer": TOKENIZER,
                "chunks": json_of(chunks),
            }
            details = job.details
            id = await self.store.add_result(details["project_id"], details["source_id"], result)
            stage.output = {"parse_result_id": id}
        return {"parse_result_id": id}

    async def _show_spans(self, runner: JobRunner, child_id: str, job: RunningJob) -> None:
        """Have a job show the spans of its child as they come, to the child's end."""
        async with runner.channel(child_id).subscribe() as changes:
            async for event in changes:
                change = event.structure(JobChange)
                if change.part is not None and change.value != job.now.parts.get(change.part):
                    await job.update(change.part, change.value)
