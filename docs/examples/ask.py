"""A question about a picture, from Python: the example of the README."""

from deepmmsearch import Agent

with Agent.load("Qwen/Qwen2.5-VL-7B-Instruct", index="my-index") as agent:
    for reply in agent.stream("Whose flag is on the tower?", "picture.jpg"):
        print(len(reply.trajectory.turns), "turns so far")
    print(reply.answer or reply.error)
    for number, source in enumerate(reply.sources, 1):
        print(f"[{number}] {source.title} {source.url}: {source.sentence}")
    reply = agent.ask("And who built it?", "picture.jpg", history=[("Whose flag is on the tower?", reply.answer or "")])
