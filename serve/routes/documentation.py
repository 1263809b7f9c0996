"""GET /docs: Swagger UI over /openapi.json, whole from this server, so that it works where no other is reachable.

The scripts and styles are those that the package fastapi-offline carries. The page may load nothing from anywhere
else: its content security policy says so to the browser.
"""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

_ASSETS: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_NO_ICON: Final = "data:,"
_GUARDED: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

_SETTINGS: Final = {
    "validatorUrl": None,  # it would send the document to swagger.io
    "persistAuthorization": True,
    "displayRequestDuration": True,
    "tryItOutEnabled": True,
}


def documentation_routes() -> APIRouter:
    """The page and what it loads. Needs no key: it says nothing that the source code does not."""
    router = APIRouter(include_in_schema=False)
    page = _page()
    headers = {**_GUARDED, "content-security-policy": _policy(page)}

    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    router.add_api_route("/docs", docs, methods=["GET"])
    for name in _ASSETS:
        _add_asset(router, name)
    return router


def _add_asset(router: APIRouter, name: str) -> None:
    path = Path(str(files("fastapi_offline") / "static" / name))
    headers = {**_GUARDED, "cache-control": "public, max-age=3600"}

    async def asset() -> FileResponse:
        return FileResponse(path, media_type=_ASSETS[name], headers=headers)

    router.add_api_route(f"/docs/{name}", asset, methods=["GET"])


def _page() -> str:
    """The framework's page with addresses relative to its own, which hold behind any prefix."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="lakebed",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url=_NO_ICON,
        swagger_ui_parameters=_SETTINGS,
    )
    return bytes(page.body).decode()


def _policy(page: str) -> str:
    """What the browser may load and run: this server's own files, and the page's own script by its digest."""
    digests = [b64encode(sha256(script.encode()).digest()).decode() for script in _INLINE_SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
