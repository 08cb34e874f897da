"""The MCP project's own client: lists the tools of a server, calls some, and prints what it saw as JSON.

    mcp_client.py MODE CALLS URL
    mcp_client.py MODE CALLS PROGRAM ARGUMENT...

MODE is `legacy`, to begin as before 2026, or `auto`; CALLS is a JSON array of pairs of a tool and its arguments.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters


async def main(mode: str, calls: str, place: str, *rest: str) -> None:
    server = place if place.startswith("http") else StdioServerParameters(command=place, args=list(rest))
    async with Client(server, mode=mode) as client:
        tools = await client.list_tools()
        results = []
        for tool, arguments in json.loads(calls):
            result = await client.call_tool(tool, arguments)
            text = "".join(part.text for part in result.content if part.type == "text")
            results.append({"text": text, "failed": bool(result.is_error)})
        saw = {
            "server": client.server_info.name if client.server_info else None,
            "protocol": client.protocol_version,
            "tools": [tool.name for tool in tools.tools],
            "results": results,
        }
    print(json.dumps(saw))


asyncio.run(main(*sys.argv[1:]))
