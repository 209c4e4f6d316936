"""Makes calls with the official OpenAI SDK as an application would, default settings and retries, and reports what the application sees.

Standard input: a JSON list of {"call": name, "model": ..., "api_key": ...}; without "api_key" the SDK reads OPENAI_API_KEY.
OPENAI_BASE_URL is read by the SDK itself. Standard output: a JSON list of {"ok": value} or {"error": class, "status": ..., "code": ...},
each with "seconds". What the values should be is the test's affair.
"""

import json
import sys
import time

import openai


def models(client, model):
    return [entry.id for entry in client.models.list()]


def chat(client, model):
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Say the fox."}])
    return {"text": answer.choices[0].message.content, "input": answer.usage.prompt_tokens, "output": answer.usage.completion_tokens}


def chat_stream(client, model):
    events = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say the fox."}], stream=True, stream_options={"include_usage": True}
    )
    text, pieces, usage = "", 0, None
    for event in events:
        usage = event.usage or usage
        for choice in event.choices:
            if choice.delta.content:
                text, pieces = text + choice.delta.content, pieces + 1
    return {"text": text, "pieces": pieces, "input": usage.prompt_tokens, "output": usage.completion_tokens}


def responses(client, model):
    answer = client.responses.create(model=model, input="Say the fox.")
    return {"text": answer.output_text, "input": answer.usage.input_tokens, "output": answer.usage.output_tokens}


def responses_stream(client, model):
    text, kinds = "", []
    for event in client.responses.create(model=model, input="Say the fox.", stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.completed":
            usage = event.response.usage
    return {"text": text, "first": kinds[0], "last": kinds[-1], "input": usage.input_tokens, "output": usage.output_tokens}


def embeddings(client, model):
    answer = client.embeddings.create(model=model, input="Say the fox.")
    return {"vector": answer.data[0].embedding, "input": answer.usage.prompt_tokens}


def no_model(client, model):
    return client.post("/chat/completions", body={"messages": []}, cast_to=object)


CALLS = {call.__name__: call for call in (models, chat, chat_stream, responses, responses_stream, embeddings, no_model)}


def outcome(wanted):
    client = openai.OpenAI(api_key=wanted["api_key"]) if "api_key" in wanted else openai.OpenAI()
    began = time.monotonic()
    try:
        seen = {"ok": CALLS[wanted["call"]](client, wanted.get("model", "gpt-4o-mini"))}
    except openai.APIStatusError as error:
        seen = {"error": type(error).__name__, "status": error.status_code, "code": error.code, "message": error.message}
    except openai.OpenAIError as error:
        seen = {"error": type(error).__name__, "message": str(error)}
    return seen | {"seconds": round(time.monotonic() - began, 3)}


if __name__ == "__main__":
    json.dump([outcome(wanted) for wanted in json.load(sys.stdin)], sys.stdout)
