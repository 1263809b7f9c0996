"""What HAProxy does with a request before a replica sees it, and with an answer that is not one of ours.

Lines of HAProxy 2.8's configuration (https://docs.haproxy.org/2.8/configuration.html) for `haproxy.install`. What
HAProxy cannot read as a request at all, or whose headers do not end in time, gets an answer in HTML that is
compiled into it; everything else has its body from `error_responses`.
"""

from pathlib import Path
from typing import Final

from lakebed.serve.error_responses import proxy_refusals
from lakebed.serve.request_ids import FIT_FOR_AN_ID, REQUEST_ID_HEADER

_REQUEST_ID: Final = "%[var(txn.request_id)]"

_GATEWAY_ERRORS: Final = {502, 504}
"""No replica, or none that came to an end: to a client the same as 503, which says when to come back."""

_RULES: Final = f"""\
    acl one_request_id req.fhdr_cnt({REQUEST_ID_HEADER}) eq 1
    acl fit_request_id req.fhdr({REQUEST_ID_HEADER}) -m reg {FIT_FOR_AN_ID}
    http-request set-header {REQUEST_ID_HEADER} %[uuid] unless one_request_id fit_request_id
    http-request set-var(txn.request_id) req.fhdr({REQUEST_ID_HEADER})
    # Orders to Serve, which fails with 500 on what is not UTF-8. That a client has left is always heeded.
    acl one_timeout req.fhdr_cnt(x-request-timeout-seconds) eq 1
    acl fit_timeout req.fhdr(x-request-timeout-seconds) -m reg ^[0-9]{{1,5}}([.][0-9]{{1,3}})?$
    http-request del-header x-request-timeout-seconds unless one_timeout fit_timeout
    http-request del-header x-request-disconnect-disabled
    # Replicas are told the address, whatever a client says of it.
    http-request set-header x-forwarded-for %[src]
    http-request del-header ^(serve[-_]multiplexed[-_]model[-_]id|x[-_]session[-_]id)$ -m reg
    http-request return status 404 default-errorfiles unless {{ path_beg / }}
    acl ours res.hdr(content-type) -m beg application/json
"""


def defaults(folder: Path, header_seconds: int) -> str:
    """Lines for the section `defaults`; writes the bodies they name into `folder`."""
    lines = [f"timeout http-request {header_seconds}s", "option http-ignore-probes"]
    for refusal in proxy_refusals():
        body = folder / f"{refusal.status}.json"
        body.write_bytes(refusal.body(_REQUEST_ID))
        headers = {REQUEST_ID_HEADER: _REQUEST_ID, **refusal.headers}
        rest = " ".join(f"hdr {name} {value}" for name, value in headers.items())
        statuses = {refusal.status} | (_GATEWAY_ERRORS if refusal.status == 503 else set())
        lines += [
            f"http-error status {status} content-type application/json lf-file {body} {rest}"
            for status in sorted(statuses)
        ]
    return "".join(f"    {line}\n" for line in lines)


def rules() -> str:
    """Lines for the frontend. What Serve itself answers is in plain text, and is replaced."""
    statuses = [refusal.status for refusal in proxy_refusals()]
    replaced = [
        f"    http-response return status {status} default-errorfiles if {{ status {status} }} !ours\n"
        for status in statuses
    ]
    gateway = " ".join(map(str, sorted(_GATEWAY_ERRORS)))
    return "".join([_RULES, *replaced, f"    http-after-response set-status 503 if {{ status {gateway} }}\n"])
