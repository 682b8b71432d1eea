"""The variables by which programs are told where the model is, in every wire format."""

from __future__ import annotations

__all__ = ["pointed"]


def pointed(url: str, token: str) -> dict[str, str]:
    """What points a program's SDKs at the gateway: base URLs, and the token as their key.

    `url` has no version: OpenAI's clients expect one in theirs, the others add it themselves.
    """
    versioned = f"{url}/v1"
    return {
        "OPENAI_BASE_URL": versioned, "OPENAI_API_BASE": versioned, "OPENAI_API_KEY": token,
        "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_BASE": url, "ANTHROPIC_API_KEY": token,
        "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_BASE_URL": url, "GEMINI_API_BASE": url,
        "GEMINI_API_KEY": token, "GOOGLE_API_KEY": token,
        "LLM_BASE_URL": versioned, "LLM_API_KEY": token,
    }  # fmt: skip
